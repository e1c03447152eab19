locals {
  variant = data.coder_parameter.image_variant.value
  home    = "/home/coder"
  project = "${local.home}/project"
  workdir = try(module.git_clone[0].repo_dir, local.project)

  variant_env = {
    elixir = {
      MIX_HOME     = "${local.home}/.mix"
      MIX_ARCHIVES = "${local.home}/.mix/archives"
      HEX_HOME     = "${local.home}/.hex"
    }
  }

  # What is wrong is said below, where it does not print a secret.
  user_env   = try({ for name, value in jsondecode(data.coder_parameter.user_env.value) : name => tostring(value) }, {})
  secret_env = try({ for name, value in jsondecode(data.coder_parameter.secret_env.value) : name => tostring(value) }, {})
  all_env    = sensitive([data.coder_parameter.user_env.value, data.coder_parameter.secret_env.value])

  metadata = [
    { key = "cpu", name = "CPU", script = "coder stat cpu", interval = 10 },
    { key = "memory", name = "RAM", script = "coder stat mem", interval = 10 },
    { key = "home", name = "Home disk", script = "coder stat disk --path ${local.home}", interval = 60 },
    { key = "host_cpu", name = "Host CPU", script = "coder stat cpu --host", interval = 10 },
    { key = "host_memory", name = "Host memory", script = "coder stat mem --host", interval = 10 },
  ]
}

data "coder_workspace" "me" {}

data "coder_workspace_owner" "me" {}

data "coder_task" "me" {}

# A name that no shell could set, or a value that is a list, would only fail inside the workspace.
resource "terraform_data" "environment" {
  lifecycle {
    precondition {
      condition = nonsensitive(alltrue([
        for text in local.all_env :
        try(alltrue([for name, value in jsondecode(text) : can(tostring(value)) && can(regex("^[A-Za-z_][A-Za-z0-9_]*$", name))]), false)
      ]))
      error_message = "Environment and Secret environment must be JSON objects of texts, such as {\"NAME\": \"value\"}."
    }
  }
}

resource "coder_agent" "main" {
  arch = var.arch
  os   = "linux"

  env = sensitive(merge(
    lookup(local.variant_env, local.variant, {}),
    var.extra_env,
    local.user_env,
    local.secret_env,
  ))

  display_apps {
    vscode       = true
    web_terminal = true
    ssh_helper   = true
  }

  dynamic "metadata" {
    for_each = local.metadata

    content {
      key          = metadata.value.key
      display_name = metadata.value.name
      script       = metadata.value.script
      interval     = metadata.value.interval
      timeout      = 5
      order        = metadata.key
    }
  }
}

resource "coder_script" "git" {
  agent_id           = coder_agent.main.id
  display_name       = "Git"
  icon               = "/icon/git.svg"
  run_on_start       = true
  start_blocks_login = true

  script = templatefile("${path.module}/scripts/git.sh.tftpl", {
    name      = base64encode(coalesce(data.coder_parameter.git_user_name.value, data.coder_workspace_owner.me.full_name, data.coder_workspace_owner.me.name))
    email     = base64encode(try(coalesce(data.coder_parameter.git_user_email.value, data.coder_workspace_owner.me.email), ""))
    helper    = base64encode(data.coder_parameter.git_credential_helper.value)
    gitconfig = base64encode(data.coder_parameter.git_global_gitconfig.value)
  })
}

resource "coder_script" "setup" {
  count = data.coder_parameter.setup_script.value == "" ? 0 : 1

  agent_id     = coder_agent.main.id
  display_name = "Setup"
  icon         = "/icon/terminal.svg"
  run_on_start = true

  script = templatefile("${path.module}/scripts/setup.sh.tftpl", {
    workdir = base64encode(local.workdir)
    script  = base64encode(data.coder_parameter.setup_script.value)
  })
}
