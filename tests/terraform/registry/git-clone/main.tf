# The interface of registry.coder.com/coder/git-clone/coder 2.0.3.
variable "agent_id" {
  type = string
}
variable "url" {
  type = string
}
variable "base_dir" {
  type    = string
  default = ""
}
variable "extra_args" {
  type    = list(string)
  default = []
}

locals {
  folder_name = trimsuffix(basename(var.url), ".git")
}

output "repo_dir" {
  value = join("/", [var.base_dir != "" ? var.base_dir : "~", local.folder_name])
}
output "folder_name" {
  value = local.folder_name
}
