# The interface of registry.coder.com/coder/vault-github/coder 1.1.2.
variable "agent_id" {
  type = string
}
variable "vault_addr" {
  type = string
}
variable "coder_github_auth_id" {
  type    = string
  default = "github"
}
