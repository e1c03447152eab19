# The parameters that both templates have. Names, types and defaults are the interface; those that
# stand behind a count are only asked for when they matter.

locals {
  gitconfig = <<-GITCONFIG
    [init]
    	defaultBranch = main
    [pull]
    	rebase = true
    [push]
    	autoSetupRemote = true
    [fetch]
    	prune = true
    [rerere]
    	enabled = true
    [diff]
    	algorithm = histogram
  GITCONFIG
  secret    = jsonencode({ mask_input = true })
}

data "coder_parameter" "image_variant" {
  name         = "image_variant"
  display_name = "Variant"
  description  = "What the workspace is made for."
  type         = "string"
  form_type    = "dropdown"
  default      = "base"
  mutable      = false
  order        = 1

  dynamic "option" {
    for_each = var.variants

    content {
      name        = option.value.title
      value       = option.key
      description = option.value.description
      icon        = option.value.icon
    }
  }

  option {
    name        = "Custom"
    value       = "custom"
    description = "An image of your own"
    icon        = "/icon/widgets.svg"
  }
}

data "coder_parameter" "git_url" {
  name         = "git_url"
  display_name = "Git repository"
  description  = "A repository that is cloned into the project folder."
  type         = "string"
  default      = ""
  mutable      = true
  order        = 20

  validation {
    regex = "^$|^(https?://|ssh://|git@)[^\\s'\"]+$"
    error = "Expected a URL such as https://github.com/owner/repository or git@github.com:owner/repository."
  }
}

data "coder_parameter" "git_user_name" {
  name         = "git_user_name"
  display_name = "Git user name"
  description  = "The name in your commits; empty for your name in Coder."
  type         = "string"
  default      = ""
  mutable      = true
  order        = 21
}

data "coder_parameter" "git_user_email" {
  name         = "git_user_email"
  display_name = "Git email"
  description  = "The address in your commits; empty for your address in Coder."
  type         = "string"
  default      = ""
  mutable      = true
  order        = 22
}

data "coder_parameter" "git_global_gitconfig" {
  name         = "git_global_gitconfig"
  display_name = "Git configuration"
  description  = "Settings that your own ~/.gitconfig can override."
  type         = "string"
  form_type    = "textarea"
  default      = local.gitconfig
  mutable      = true
  order        = 23
}

data "coder_parameter" "git_credential_helper" {
  name         = "git_credential_helper"
  display_name = "Git credential helper"
  description  = "How Git keeps credentials: store, cache, libsecret; empty for none."
  type         = "string"
  default      = "store"
  mutable      = true
  order        = 24

  validation {
    regex = "^[^\\n\\r\"\\\\]*$"
    error = "Expected one line without quotes."
  }
}

data "coder_parameter" "opencode_auth" {
  name         = "opencode_auth"
  display_name = "OpenCode credentials"
  description  = "OpenCode's auth.json."
  type         = "string"
  form_type    = "textarea"
  styling      = local.secret
  default      = "{}"
  mutable      = true
  order        = 30
}

data "coder_parameter" "opencode_config" {
  name         = "opencode_config"
  display_name = "OpenCode configuration"
  description  = "OpenCode's opencode.json."
  type         = "string"
  form_type    = "textarea"
  default      = "{}"
  mutable      = true
  order        = 31
}

data "coder_parameter" "openchamber_ui_password" {
  name         = "openchamber_ui_password"
  display_name = "OpenChamber password"
  description  = "The password that OpenChamber asks for; empty for none."
  type         = "string"
  styling      = local.secret
  default      = ""
  mutable      = true
  order        = 32
}

data "coder_parameter" "system_prompt" {
  name         = "system_prompt"
  display_name = "System prompt"
  description  = "What a task is told before its own prompt."
  type         = "string"
  form_type    = "textarea"
  default      = ""
  mutable      = true
  order        = 33
}

data "coder_parameter" "user_env" {
  name         = "user_env"
  display_name = "Environment"
  description  = "Environment variables as a JSON object of texts."
  type         = "string"
  form_type    = "textarea"
  default      = "{}"
  mutable      = true
  order        = 40
}

data "coder_parameter" "secret_env" {
  name         = "secret_env"
  display_name = "Secret environment"
  description  = "Like the environment, but not shown in the form."
  type         = "string"
  form_type    = "textarea"
  styling      = local.secret
  default      = "{}"
  mutable      = true
  order        = 41
}

data "coder_parameter" "preview_port" {
  name         = "preview_port"
  display_name = "Preview port"
  description  = "The port of your application, which the Preview app shows."
  type         = "number"
  default      = 3000
  mutable      = true
  order        = 42

  validation {
    min = 1
    max = 65535
  }
}

data "coder_parameter" "setup_script" {
  name         = "setup_script"
  display_name = "Setup script"
  description  = "A bash script that runs in the project folder at every start."
  type         = "string"
  form_type    = "textarea"
  default      = ""
  mutable      = false
  order        = 43
}

data "coder_parameter" "enable_vault" {
  name         = "enable_vault"
  display_name = "Vault"
  description  = "Log in to HashiCorp Vault with your GitHub account."
  type         = "bool"
  form_type    = "switch"
  default      = false
  mutable      = false
  order        = 50
}

data "coder_parameter" "vault_addr" {
  count = data.coder_parameter.enable_vault.value == "true" ? 1 : 0

  name         = "vault_addr"
  display_name = "Vault address"
  description  = "The address of Vault."
  type         = "string"
  default      = "http://vault:8200"
  mutable      = true
  order        = 51
}

data "coder_parameter" "vault_github_auth_id" {
  count = data.coder_parameter.enable_vault.value == "true" ? 1 : 0

  name         = "vault_github_auth_id"
  display_name = "Vault GitHub authentication"
  description  = "The id of Coder's external authentication for GitHub; empty for 'github'."
  type         = "string"
  default      = ""
  mutable      = true
  order        = 52
}

data "coder_parameter" "enable_openclaw_node" {
  name         = "enable_openclaw_node"
  display_name = "OpenClaw node"
  description  = "Join an OpenClaw gateway as a node."
  type         = "bool"
  form_type    = "switch"
  default      = false
  mutable      = false
  order        = 60
}

data "coder_parameter" "openclaw_bridge_host" {
  count = local.openclaw_asked

  name         = "openclaw_bridge_host"
  display_name = "OpenClaw gateway"
  description  = "The host of the gateway; empty for no node."
  type         = "string"
  default      = ""
  mutable      = true
  order        = 61
}

data "coder_parameter" "openclaw_bridge_port" {
  count = local.openclaw_asked

  name         = "openclaw_bridge_port"
  display_name = "OpenClaw gateway port"
  description  = "The port of the gateway."
  type         = "number"
  default      = 18790
  mutable      = true
  order        = 62

  validation {
    min = 1
    max = 65535
  }
}

data "coder_parameter" "openclaw_bridge_tls" {
  count = local.openclaw_asked

  name         = "openclaw_bridge_tls"
  display_name = "OpenClaw TLS"
  description  = "Connect to the gateway with TLS."
  type         = "bool"
  form_type    = "switch"
  default      = false
  mutable      = false
  order        = 63
}

data "coder_parameter" "openclaw_bridge_tls_fingerprint" {
  count = local.openclaw_asked

  name         = "openclaw_bridge_tls_fingerprint"
  display_name = "OpenClaw TLS fingerprint"
  description  = "The SHA-256 of the gateway's certificate; empty to trust the system's CAs."
  type         = "string"
  default      = ""
  mutable      = true
  order        = 64
}

data "coder_parameter" "openclaw_gateway_ws_url" {
  count = local.openclaw_asked

  name         = "openclaw_gateway_ws_url"
  display_name = "OpenClaw WebSocket URL"
  description  = "For pairing; empty to make it from host and port."
  type         = "string"
  default      = ""
  mutable      = true
  order        = 65
}

data "coder_parameter" "openclaw_gateway_token" {
  count = local.openclaw_asked

  name         = "openclaw_gateway_token"
  display_name = "OpenClaw token"
  description  = "The token that the gateway asks for."
  type         = "string"
  styling      = local.secret
  default      = ""
  mutable      = true
  order        = 66
}

locals {
  openclaw_asked = data.coder_parameter.enable_openclaw_node.value == "true" ? 1 : 0
}
