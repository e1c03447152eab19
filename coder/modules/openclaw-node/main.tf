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
  description = "The icon."
  type        = string
  default     = "/icon/widgets.svg"
}

variable "install_openclaw" {
  description = "Whether to install OpenClaw when the image does not have it."
  type        = bool
  default     = true
}

variable "openclaw_version" {
  description = "The version that is installed when the image has none."
  type        = string
  default     = "2026.7.1-2"

  validation {
    condition     = can(regex("^([0-9]+\\.[0-9]+\\.[0-9]+(-[0-9A-Za-z.-]+)?|latest)$", var.openclaw_version))
    error_message = "openclaw_version must be a version such as 2026.7.1-2, or latest."
  }
}

variable "bridge_host" {
  description = "The host of the OpenClaw gateway that this node joins."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9.:-]*$", var.bridge_host))
    error_message = "bridge_host must be a host name or an address."
  }
}

variable "bridge_port" {
  description = "The port of the gateway."
  type        = number
  default     = 18790

  validation {
    condition     = var.bridge_port >= 1 && var.bridge_port <= 65535 && floor(var.bridge_port) == var.bridge_port
    error_message = "bridge_port must be a whole number from 1 to 65535."
  }
}

variable "bridge_tls" {
  description = "Whether the connection to the gateway uses TLS."
  type        = bool
  default     = false
}

variable "bridge_tls_fingerprint" {
  description = "The SHA-256 of the gateway's certificate; empty to trust the system's CAs."
  type        = string
  default     = ""

  validation {
    condition     = var.bridge_tls_fingerprint == "" || can(regex("^([0-9A-Fa-f]{2}:?){32}$", var.bridge_tls_fingerprint))
    error_message = "bridge_tls_fingerprint must be a SHA-256 of 64 hex digits, with or without colons."
  }
}

variable "display_name" {
  description = "The name of this node in the gateway; empty for the name of the machine."
  type        = string
  default     = ""
}

variable "gateway_ws_url" {
  description = "The WebSocket URL of the gateway, for pairing; empty to make it from host and port."
  type        = string
  default     = ""

  validation {
    condition     = var.gateway_ws_url == "" || can(regex("^wss?://[^\\s'\"]+$", var.gateway_ws_url))
    error_message = "gateway_ws_url must start with ws:// or wss://."
  }
}

variable "gateway_token" {
  description = "The token that the gateway asks for."
  type        = string
  default     = ""
  sensitive   = true
}

variable "auto_approve_pairing" {
  description = "Whether this node approves its own pairing at the gateway; needs gateway_token."
  type        = bool
  default     = false
}

resource "coder_env" "gateway_token" {
  # The environment, not the script: a script stands in the arguments of a process.
  agent_id = var.agent_id
  name     = "OPENCLAW_GATEWAY_TOKEN"
  value    = var.gateway_token
}

resource "coder_script" "start" {
  agent_id     = var.agent_id
  display_name = "OpenClaw node"
  icon         = var.icon
  run_on_start = true

  script = templatefile("${path.module}/scripts/start.sh.tftpl", {
    install      = var.install_openclaw
    version      = var.openclaw_version
    host         = var.bridge_host
    port         = var.bridge_port
    tls          = var.bridge_tls
    fingerprint  = var.bridge_tls_fingerprint
    display_name = base64encode(var.display_name)
    gateway_url  = var.gateway_ws_url
    auto_approve = var.auto_approve_pairing
  })

  lifecycle {
    precondition {
      condition     = var.bridge_tls_fingerprint == "" || var.bridge_tls
      error_message = "bridge_tls_fingerprint has no meaning without bridge_tls."
    }
    precondition {
      condition     = !var.auto_approve_pairing || nonsensitive(var.gateway_token != "")
      error_message = "auto_approve_pairing needs gateway_token."
    }
  }
}

resource "coder_app" "log" {
  agent_id     = var.agent_id
  slug         = "openclaw-node"
  display_name = "OpenClaw node"
  icon         = var.icon
  order        = var.order
  group        = var.group
  command      = "tail -n 100 -F .local/state/hakim/openclaw-node.log"
}
