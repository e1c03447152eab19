# Proxmox deletes a container together with every volume that carries its id. So a home disk is made
# by, named after and owned by a container of its own, which holds it and never runs; the workspace
# only borrows it. docs/how-to/home-disks.md has the whole story.

locals {
  home_volume_id    = try(data.coder_parameter.proxmox_home_volume_id[0].value, "")
  home_volume_owner = try(tonumber(regex("(?:vm|subvol)-([0-9]+)-disk-", local.home_volume_id)[0]), 0)
  home_datastore    = try(coalesce(data.coder_parameter.proxmox_home_datastore_id[0].value, var.proxmox_container_datastore_id), "")
  home_tag          = "hakim-home"

  # What the workspace mounts: nothing, the given volume, or that of its own holder.
  home_volume = (
    local.home_disks == 0 ? [] :
    local.home_volume_id != "" ? [local.home_volume_id] :
    proxmox_virtual_environment_container.home[*].mount_point[0].path_in_datastore
  )
}

# Its count depends on a parameter that cannot change. Were it to follow the given volume, typing
# one would delete the home that the workspace has.
resource "proxmox_virtual_environment_container" "home" {
  count = local.home_disks

  node_name      = var.proxmox_node_name
  pool_id        = var.proxmox_pool_id == "" ? null : var.proxmox_pool_id
  description    = "Holds the home disk of Coder workspace ${data.coder_workspace_owner.me.name}/${data.coder_workspace.me.name}. Deleting it deletes the home."
  tags           = sort(["coder", local.home_tag, "owner-${local.owner}"])
  unprivileged   = true
  started        = false
  start_on_boot  = false
  timeout_delete = 180

  operating_system {
    template_file_id = local.template_file_id
    type             = local.ostype
  }

  cpu {
    architecture = local.chosen_arch
  }

  # The least that every template fits in.
  disk {
    datastore_id = local.home_datastore
    size         = 8
  }

  mount_point {
    path   = "/home/coder"
    volume = local.home_datastore
    size   = local.home_volume_id == "" ? "${data.coder_parameter.home_disk_gb[0].value}G" : "1G"
  }

  initialization {
    hostname = substr("${local.hostname}-home", 0, 63)
  }

  lifecycle {
    # Whatever changes: a replaced holder is a lost home.
    ignore_changes = all
  }

  depends_on = [terraform_data.template]
}

data "proxmox_virtual_environment_containers" "all" {
  count = local.home_volume_id == "" ? 0 : 1

  lifecycle {
    postcondition {
      condition = alltrue([
        for guest in self.containers :
        contains(guest.tags, local.home_tag) && contains(guest.tags, "owner-${local.owner}") && guest.node_name == var.proxmox_node_name
        if guest.vm_id == local.home_volume_owner
      ])
      error_message = "The home volume ${local.home_volume_id} belongs to container ${local.home_volume_owner}, which would take it along when it is deleted, or which is not yours, or which is on another node. Move the volume to a holder of yours first; docs/how-to/home-disks.md tells how."
    }
  }
}

data "proxmox_virtual_environment_vms" "all" {
  count = local.home_volume_id == "" ? 0 : 1

  lifecycle {
    postcondition {
      condition     = !contains([for guest in self.vms : guest.vm_id], local.home_volume_owner)
      error_message = "The home volume ${local.home_volume_id} is the disk of virtual machine ${local.home_volume_owner}."
    }
  }
}
