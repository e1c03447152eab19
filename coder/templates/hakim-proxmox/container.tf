locals {
  owner    = lower(data.coder_workspace_owner.me.name)
  hostname = substr(lower("coder-${local.owner}-${data.coder_workspace.me.name}"), 0, 63)
  tags     = sort(["coder", "hakim", "owner-${local.owner}"])
  running  = data.coder_workspace.me.start_count
}

# The only thing that replaces a container. What the operator or a new release changes reaches new
# containers, and an old one when its owner asks for a rebuild.
resource "terraform_data" "generation" {
  input = {
    generation  = data.coder_parameter.rebuild_generation.value
    home_volume = local.home_volume_id
  }

  lifecycle {
    precondition {
      condition     = local.home_disks == 1 || tonumber(data.coder_parameter.rebuild_generation.value) == 0
      error_message = "This workspace has no home disk: a rebuild would delete /home/coder with the root disk. Make a new workspace with a home disk, and copy the files over."
    }
    precondition {
      condition     = !local.is_custom || local.template_file_id != ""
      error_message = "The variant 'custom' needs a template file, such as local:vztmpl/hakim-base-trixie-amd64.tar.xz."
    }
    precondition {
      condition     = local.is_custom || contains(try(local.variants[local.variant].releases, []), local.chosen_release)
      error_message = "There is no image of the variant '${local.variant}' for ${local.chosen_release}."
    }
    precondition {
      condition     = data.coder_parameter.proxmox_vm_id.value == "0" || try(tonumber(data.coder_parameter.proxmox_vm_id.value) >= 100, false)
      error_message = "The container id must be 0, or 100 and above."
    }
  }
}

resource "proxmox_virtual_environment_container" "workspace" {
  node_name      = var.proxmox_node_name
  vm_id          = data.coder_parameter.proxmox_vm_id.value == "0" ? null : tonumber(data.coder_parameter.proxmox_vm_id.value)
  pool_id        = var.proxmox_pool_id == "" ? null : var.proxmox_pool_id
  description    = "Coder workspace ${data.coder_workspace_owner.me.name}/${data.coder_workspace.me.name}"
  tags           = local.tags
  unprivileged   = true
  started        = local.running == 1
  start_on_boot  = false
  timeout_delete = 180

  operating_system {
    template_file_id = local.template_file_id
    type             = local.ostype
  }

  cpu {
    architecture = local.chosen_arch
    cores        = tonumber(data.coder_parameter.container_cores.value)
  }

  memory {
    dedicated = tonumber(data.coder_parameter.container_memory_mb.value)
  }

  disk {
    datastore_id = var.proxmox_container_datastore_id
    size         = tonumber(data.coder_parameter.container_disk_gb.value)
  }

  dynamic "mount_point" {
    for_each = local.home_volume

    content {
      path   = "/home/coder"
      volume = mount_point.value
      backup = true
    }
  }

  network_interface {
    name     = "eth0"
    bridge   = var.proxmox_network_bridge
    vlan_id  = var.proxmox_vlan_id
    firewall = var.proxmox_network_firewall
  }

  dynamic "features" {
    for_each = data.coder_parameter.enable_nesting.value == "true" ? [true] : []

    content {
      nesting = true
    }
  }

  initialization {
    hostname = local.hostname

    ip_config {
      ipv4 {
        address = "dhcp"
      }
    }

    user_account {
      keys     = local.root_public_keys
      password = local.bootstrap_password
    }
  }

  wait_for_ip {
    ipv4 = true
  }

  lifecycle {
    replace_triggered_by = [terraform_data.generation]

    # A change of any of these would make the provider delete the container and its disks.
    ignore_changes = [
      node_name,
      vm_id,
      pool_id,
      template,
      unprivileged,
      operating_system,
      cpu[0].architecture,
      disk[0].datastore_id,
      mount_point,
      features,
      initialization,
    ]
  }

  depends_on = [terraform_data.template]
}
