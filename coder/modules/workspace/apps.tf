locals {
  running = data.coder_workspace.me.start_count
  gates   = try(var.variants[local.variant].modules, [])
  install = !var.offline

  openclaw_host = try(data.coder_parameter.openclaw_bridge_host[0].value, "")
  use_openclaw  = contains(local.gates, "openclaw") && local.openclaw_host != ""

  task_prompt = trimspace(join("\n\n", compact([data.coder_parameter.system_prompt.value, data.coder_task.me.prompt])))
}

resource "coder_app" "preview" {
  agent_id     = coder_agent.main.id
  slug         = "preview"
  display_name = "Preview"
  icon         = "/icon/widgets.svg"
  url          = "http://127.0.0.1:${data.coder_parameter.preview_port.value}"
  subdomain    = true
  share        = "authenticated"
  order        = 1

  healthcheck {
    url       = "http://127.0.0.1:${data.coder_parameter.preview_port.value}"
    interval  = 5
    threshold = 24
  }
}

module "code_server" {
  count   = local.running
  source  = "registry.coder.com/coder/code-server/coder"
  version = "1.5.2"

  agent_id = coder_agent.main.id
  folder   = local.workdir
  order    = 2
  offline  = var.offline
}

module "opencode" {
  count  = local.running
  source = "../opencode"

  agent_id         = coder_agent.main.id
  workdir          = local.workdir
  hostname         = "127.0.0.1"
  install_opencode = local.install
  auth_json        = data.coder_parameter.opencode_auth.value
  config_json      = data.coder_parameter.opencode_config.value
  ai_prompt        = data.coder_task.me.enabled ? local.task_prompt : ""
  order            = 3
}

module "openchamber" {
  count  = contains(local.gates, "openchamber") ? local.running : 0
  source = "../openchamber"

  agent_id            = coder_agent.main.id
  workdir             = local.workdir
  install_openchamber = local.install
  ui_password         = data.coder_parameter.openchamber_ui_password.value
  order               = 4
}

module "openclaw_node" {
  count  = local.use_openclaw ? local.running : 0
  source = "../openclaw-node"

  agent_id               = coder_agent.main.id
  install_openclaw       = local.install
  bridge_host            = local.openclaw_host
  bridge_port            = tonumber(data.coder_parameter.openclaw_bridge_port[0].value)
  bridge_tls             = data.coder_parameter.openclaw_bridge_tls[0].value == "true"
  bridge_tls_fingerprint = data.coder_parameter.openclaw_bridge_tls_fingerprint[0].value
  display_name           = "${data.coder_workspace_owner.me.name}-${data.coder_workspace.me.name}"
  gateway_ws_url         = data.coder_parameter.openclaw_gateway_ws_url[0].value
  gateway_token          = data.coder_parameter.openclaw_gateway_token[0].value
  order                  = 5
}

module "git_clone" {
  count   = data.coder_parameter.git_url.value == "" ? 0 : local.running
  source  = "registry.coder.com/coder/git-clone/coder"
  version = "2.0.3"

  agent_id = coder_agent.main.id
  url      = data.coder_parameter.git_url.value
  base_dir = local.project
}

module "vault" {
  count   = data.coder_parameter.enable_vault.value == "true" ? local.running : 0
  source  = "registry.coder.com/coder/vault-github/coder"
  version = "1.1.2"

  agent_id             = coder_agent.main.id
  vault_addr           = data.coder_parameter.vault_addr[0].value
  coder_github_auth_id = coalesce(data.coder_parameter.vault_github_auth_id[0].value, "github")
}

resource "coder_ai_task" "opencode" {
  count = data.coder_task.me.enabled ? local.running : 0

  app_id = module.opencode[0].task_app_id
}
