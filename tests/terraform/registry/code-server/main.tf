# The interface of registry.coder.com/coder/code-server/coder 1.5.2.
variable "agent_id" {
  type = string
}
variable "folder" {
  type    = string
  default = ""
}
variable "order" {
  type    = number
  default = null
}
variable "offline" {
  type    = bool
  default = false
}
variable "extensions" {
  type    = list(string)
  default = []
}
variable "port" {
  type    = number
  default = 13337
}

resource "terraform_data" "interface" {
  lifecycle {
    precondition {
      condition     = !var.offline || length(var.extensions) == 0
      error_message = "Offline mode does not allow extensions to be installed."
    }
  }
}
