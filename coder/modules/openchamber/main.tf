terraform {
  required_version = ">= 1.9"

  required_providers {
    coder = {
      source  = "coder/coder"
      version = ">= 2.16"
    }
  }
}

variable "agent_id" {
  description = "The agent of the workspace."
  type        = string
}

variable "workdir" {
  description = "The folder that OpenChamber opens first."
  type        = string

  validation {
    condition     = startswith(var.workdir, "/")
    error_message = "workdir must be an absolute path, such as /home/coder/project."
  }
}

variable "port" {
  description = "The port of OpenChamber's server."
  type        = number
  default     = 6904

  validation {
    condition     = var.port >= 1024 && var.port <= 65535 && floor(var.port) == var.port
    error_message = "port must be a whole number from 1024 to 65535."
  }
}

variable "subdomain" {
  description = "Whether the app has a subdomain of its own."
  type        = bool
  default     = true
}

variable "order" {
  description = "The place of the app among the others."
  type        = number
  default     = null
}

variable "group" {
  description = "The group that the app stands in."
  type        = string
  default     = null
}

variable "icon" {
  description = "The icon of the app."
  type        = string
  default     = "/icon/widgets.svg"
}

variable "web_app_display_name" {
  description = "The name of the app."
  type        = string
  default     = "OpenChamber"
}

variable "install_openchamber" {
  description = "Whether to install OpenChamber when the image does not have it."
  type        = bool
  default     = true
}

variable "openchamber_version" {
  description = "The version that is installed when the image has none."
  type        = string
  default     = "1.19.0"

  validation {
    condition     = can(regex("^([0-9]+\\.[0-9]+\\.[0-9]+(-[0-9A-Za-z.-]+)?|latest)$", var.openchamber_version))
    error_message = "openchamber_version must be a version such as 1.19.0, or latest."
  }
}

variable "pre_install_script" {
  description = "A script that runs before OpenChamber is installed."
  type        = string
  default     = ""
}

variable "post_install_script" {
  description = "A script that runs after OpenChamber is installed and before it starts."
  type        = string
  default     = ""
}

variable "ui_password" {
  description = "The password that OpenChamber asks for; empty for none."
  type        = string
  default     = ""
  sensitive   = true
}

variable "reuse_opencode_server" {
  description = "Whether OpenChamber uses the OpenCode server that runs already instead of one of its own."
  type        = bool
  default     = true
}

variable "opencode_port" {
  description = "The port of the OpenCode server that is used."
  type        = number
  default     = 4096
}

resource "coder_env" "ui_password" {
  # The environment, not the script: a script stands in the arguments of a process.
  agent_id = var.agent_id
  name     = "OPENCHAMBER_UI_PASSWORD"
  value    = var.ui_password
}

resource "coder_script" "start" {
  agent_id     = var.agent_id
  display_name = "OpenChamber"
  icon         = var.icon
  run_on_start = true

  script = templatefile("${path.module}/scripts/start.sh.tftpl", {
    workdir       = base64encode(var.workdir)
    port          = var.port
    install       = var.install_openchamber
    version       = var.openchamber_version
    reuse         = var.reuse_opencode_server
    opencode_port = var.opencode_port
    pre_install   = base64encode(var.pre_install_script)
    post_install  = base64encode(var.post_install_script)
  })

  lifecycle {
    precondition {
      condition     = !var.reuse_opencode_server || var.opencode_port != var.port
      error_message = "OpenChamber and OpenCode cannot both listen on port ${var.port}."
    }
  }
}

resource "coder_app" "web" {
  agent_id     = var.agent_id
  slug         = "openchamber"
  display_name = var.web_app_display_name
  icon         = var.icon
  order        = var.order
  group        = var.group
  url          = "http://127.0.0.1:${var.port}"
  subdomain    = var.subdomain
  share        = "owner"

  healthcheck {
    url       = "http://127.0.0.1:${var.port}/health"
    interval  = 5
    threshold = 24
  }
}

output "app_id" {
  description = "The app."
  value       = coder_app.web.id
}
