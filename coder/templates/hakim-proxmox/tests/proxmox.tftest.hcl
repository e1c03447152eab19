# With mock providers: what the template decides by itself.

mock_provider "proxmox" {
  mock_resource "proxmox_virtual_environment_container" {
    defaults = {
      id    = "20131"
      vm_id = 20131
    }
  }
}

mock_provider "coder" {
  mock_data "coder_workspace" {
    defaults = {
      start_count = 1
      access_url  = "https://coder.example.com"
      id          = "6c1b8a0e-0000-4000-8000-000000000001"
      name        = "dev"
    }
  }
  mock_data "coder_workspace_owner" {
    defaults = {
      name            = "Alice"
      full_name       = "Alice Example"
      ssh_private_key = "PRIVATE"
      ssh_public_key  = "ssh-ed25519 AAAA coder"
    }
  }
}

override_module {
  target = module.workspace
  outputs = {
    image_variant = "base"
    agent_id      = "agent"
    agent_token   = "token"
    init_script   = "echo http://localhost:3000"
  }
}

override_data {
  target = data.coder_parameter.template_release
  values = { value = "trixie" }
}

override_data {
  target = data.coder_parameter.template_arch
  values = { value = "amd64" }
}

override_data {
  target = data.coder_parameter.rebuild_generation
  values = { value = "0" }
}

override_data {
  target = data.coder_parameter.proxmox_vm_id
  values = { value = "0" }
}

override_data {
  target = data.coder_parameter.container_memory_mb
  values = { value = "4096" }
}

override_data {
  target = data.coder_parameter.container_cores
  values = { value = "2" }
}

override_data {
  target = data.coder_parameter.container_disk_gb
  values = { value = "20" }
}

override_data {
  target = data.coder_parameter.enable_home_disk
  values = { value = "false" }
}

override_data {
  target = data.coder_parameter.enable_nesting
  values = { value = "false" }
}

override_data {
  target = data.coder_parameter.egress_mode
  values = { value = "open" }
}

override_data {
  target = data.coder_parameter.proxmox_ssh_private_key
  values = { value = "" }
}

override_data {
  target = data.coder_parameter.proxmox_extra_ssh_public_keys
  values = { value = "" }
}

override_data {
  target = data.coder_parameter.template_url
  values = { value = "", default = "" }
}

variables {
  proxmox_endpoint  = "https://pve.example.com:8006/"
  proxmox_api_token = "coder@pve!tf=secret"
}

run "endpoint_needs_https" {
  command = plan

  variables {
    proxmox_endpoint = "http://pve.example.com:8006/"
  }

  expect_failures = [var.proxmox_endpoint]
}

run "endpoint_has_no_path" {
  command = plan

  variables {
    proxmox_endpoint = "https://pve.example.com:8006/api2/json"
  }

  expect_failures = [var.proxmox_endpoint]
}

run "token_has_user_name_and_secret" {
  command = plan

  variables {
    proxmox_api_token = "secret"
  }

  expect_failures = [var.proxmox_api_token]
}

run "vlan_is_a_vlan" {
  command = plan

  variables {
    proxmox_vlan_id = 4095
  }

  expect_failures = [var.proxmox_vlan_id]
}

run "ostype_is_known" {
  command = plan

  variables {
    container_ostype = "alpine"
  }

  expect_failures = [var.container_ostype]
}

run "egress_networks_are_networks" {
  command = plan

  variables {
    proxmox_egress_cidrs = ["10.0.0.0"]
  }

  expect_failures = [var.proxmox_egress_cidrs]
}

run "a_new_workspace" {
  command = plan

  assert {
    condition     = resource.proxmox_virtual_environment_container.workspace.operating_system[0].template_file_id == "local:vztmpl/hakim-base-trixie-amd64.tar.xz"
    error_message = "The container must be made from the promoted template."
  }
  assert {
    condition     = resource.proxmox_virtual_environment_container.workspace.operating_system[0].type == "unmanaged"
    error_message = "trixie is unmanaged unless the operator says otherwise."
  }
  assert {
    condition     = resource.proxmox_virtual_environment_container.workspace.unprivileged && !resource.proxmox_virtual_environment_container.workspace.start_on_boot
    error_message = "A workspace is unprivileged and starts with Coder only."
  }
}

run "older_releases_are_debian" {
  command = plan

  override_data {
    target = data.coder_parameter.template_release
    values = { value = "bookworm" }
  }

  assert {
    condition     = resource.proxmox_virtual_environment_container.workspace.operating_system[0].type == "debian"
    error_message = "Proxmox sets an older release up itself."
  }
  assert {
    condition     = nonsensitive(resource.proxmox_virtual_environment_container.workspace.initialization[0].user_account[0].password) != "password"
    error_message = "Only the image of trixie has the known password."
  }
}

run "no_rebuild_without_a_home_disk" {
  command = plan

  override_data {
    target = data.coder_parameter.rebuild_generation
    values = { value = "1" }
  }

  expect_failures = [terraform_data.generation]
}

run "rebuild_with_a_home_disk" {
  command = plan

  override_data {
    target = data.coder_parameter.rebuild_generation
    values = { value = "1" }
  }
  override_data {
    target = data.coder_parameter.enable_home_disk
    values = { value = "true" }
  }
  override_data {
    target = data.coder_parameter.home_disk_gb
    values = { value = "30" }
  }
  override_data {
    target = data.coder_parameter.proxmox_home_datastore_id
    values = { value = "" }
  }
  override_data {
    target = data.coder_parameter.proxmox_home_volume_id
    values = { value = "" }
  }

  assert {
    condition     = length(resource.proxmox_virtual_environment_container.home) == 1 && !resource.proxmox_virtual_environment_container.home[0].started
    error_message = "A home disk has a holder that never runs."
  }
}

run "no_image_for_that_release" {
  command = plan

  override_module {
    target = module.workspace
    outputs = {
      image_variant = "php"
      agent_id      = "agent"
      agent_token   = "token"
      init_script   = ""
    }
  }
  override_data {
    target = data.coder_parameter.template_release
    values = { value = "bookworm" }
  }

  expect_failures = [terraform_data.generation]
}

run "filtering_needs_the_firewall" {
  command = plan

  override_data {
    target = data.coder_parameter.egress_mode
    values = { value = "airgapped" }
  }

  expect_failures = [proxmox_virtual_environment_firewall_options.workspace]
}

run "own_key_needs_its_public_half" {
  command = plan

  override_data {
    target = data.coder_parameter.proxmox_ssh_private_key
    values = { value = "KEY" }
  }

  expect_failures = [terraform_data.address]
}
