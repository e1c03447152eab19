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
  description = "The folder that OpenCode works in; it is made when it is missing."
  type        = string

  validation {
    condition     = startswith(var.workdir, "/")
    error_message = "workdir must be an absolute path, such as /home/coder/project."
  }
}

variable "port" {
  description = "The port of OpenCode's server."
  type        = number
  default     = 4096

  validation {
    condition     = var.port >= 1024 && var.port <= 65535 && floor(var.port) == var.port
    error_message = "port must be a whole number from 1024 to 65535."
  }
}

variable "hostname" {
  description = "The address that OpenCode's server listens on. The app reaches it on 127.0.0.1, too."
  type        = string
  default     = "0.0.0.0"

  validation {
    condition     = can(regex("^[A-Za-z0-9.:-]+$", var.hostname))
    error_message = "hostname must be an address or a host name."
  }
}

variable "subdomain" {
  description = "Whether the app has a subdomain of its own; OpenCode does not work below a path."
  type        = bool
  default     = true
}

variable "order" {
  description = "The place of the apps among the others."
  type        = number
  default     = null
}

variable "group" {
  description = "The group that the apps stand in."
  type        = string
  default     = null
}

variable "icon" {
  description = "The icon of the apps."
  type        = string
  default     = "/icon/opencode.svg"
}

variable "web_app_display_name" {
  description = "The name of the web app."
  type        = string
  default     = "OpenCode"
}

variable "cli_app" {
  description = "Whether there is an app that opens OpenCode in a terminal."
  type        = bool
  default     = true
}

variable "cli_app_display_name" {
  description = "The name of the terminal app."
  type        = string
  default     = "OpenCode CLI"
}

variable "install_opencode" {
  description = "Whether to install OpenCode when the image does not have it."
  type        = bool
  default     = true
}

variable "opencode_version" {
  description = "The version that is installed when the image has none."
  type        = string
  default     = "1.18.21"

  validation {
    condition     = can(regex("^([0-9]+\\.[0-9]+\\.[0-9]+(-[0-9A-Za-z.-]+)?|latest)$", var.opencode_version))
    error_message = "opencode_version must be a version such as 1.18.21, or latest."
  }
}

variable "pre_install_script" {
  description = "A script that runs before OpenCode is installed."
  type        = string
  default     = ""
}

variable "post_install_script" {
  description = "A script that runs after OpenCode is installed and before it starts."
  type        = string
  default     = ""
}

variable "auth_json" {
  description = "OpenCode's auth.json: credentials of the model providers."
  type        = string
  default     = "{}"
  sensitive   = true

  validation {
    condition     = can(keys(jsondecode(var.auth_json)))
    error_message = "auth_json must be a JSON object, such as {} or {\"anthropic\": {\"type\": \"api\", \"key\": \"…\"}}."
  }
}

variable "config_json" {
  description = "OpenCode's opencode.json."
  type        = string
  default     = "{}"

  validation {
    condition     = can(keys(jsondecode(var.config_json)))
    error_message = "config_json must be a JSON object, such as {} or {\"model\": \"anthropic/claude-sonnet-4-5\"}."
  }
}

variable "ai_prompt" {
  description = "The first prompt; OpenCode starts to work on it when the workspace is new."
  type        = string
  default     = ""
}

locals {
  slug = "opencode"

  # An agent starts a script as an argument of a shell, which every user of the machine can list.
  # Secrets therefore go through the environment of the agent's user and never into the script.
  auth = base64encode(jsonencode(jsondecode(var.auth_json)))

  start_script = templatefile("${path.module}/scripts/start.sh.tftpl", {
    workdir      = base64encode(var.workdir)
    port         = var.port
    hostname     = var.hostname
    install      = var.install_opencode
    version      = var.opencode_version
    config       = base64encode(jsonencode(jsondecode(var.config_json)))
    prompt       = base64encode(var.ai_prompt)
    pre_install  = base64encode(var.pre_install_script)
    post_install = base64encode(var.post_install_script)
  })
}

resource "coder_env" "auth" {
  agent_id = var.agent_id
  name     = "HAKIM_OPENCODE_AUTH"
  value    = local.auth
}

resource "coder_script" "start" {
  agent_id     = var.agent_id
  display_name = "OpenCode"
  icon         = var.icon
  run_on_start = true
  script       = local.start_script
}

resource "coder_app" "web" {
  agent_id     = var.agent_id
  slug         = local.slug
  display_name = var.web_app_display_name
  icon         = var.icon
  order        = var.order
  group        = var.group
  url          = "http://127.0.0.1:${var.port}"
  subdomain    = var.subdomain
  share        = "owner"

  healthcheck {
    url       = "http://127.0.0.1:${var.port}/global/health"
    interval  = 5
    threshold = 24
  }
}

resource "coder_app" "cli" {
  count = var.cli_app ? 1 : 0

  agent_id     = var.agent_id
  slug         = "${local.slug}-cli"
  display_name = var.cli_app_display_name
  icon         = var.icon
  order        = var.order
  group        = var.group
  command      = "bash -lc 'cd \"$(printf %s ${base64encode(var.workdir)} | base64 -d)\" && exec env PATH=\"$HOME/.local/bin:$PATH\" opencode'"
}

output "task_app_id" {
  description = "The app that a Coder task shows."
  value       = coder_app.web.id
}
