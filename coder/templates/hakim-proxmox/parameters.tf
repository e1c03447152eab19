# What belongs to the person who makes a workspace, beside the parameters of modules/workspace.

data "coder_parameter" "custom_template_file_id" {
  count = local.is_custom ? 1 : 0

  name         = "custom_template_file_id"
  display_name = "Template file"
  description  = "The container template, such as local:vztmpl/hakim-base-trixie-amd64.tar.xz."
  type         = "string"
  default      = ""
  mutable      = true
  order        = 2
}

data "coder_parameter" "template_release" {
  name         = "template_release"
  display_name = "Debian release"
  description  = "The release of a new container."
  type         = "string"
  form_type    = "dropdown"
  default      = local.default_release
  mutable      = true
  order        = 3

  dynamic "option" {
    for_each = distinct(flatten([for variant in local.variants : variant.releases]))

    content {
      name  = option.value
      value = option.value
    }
  }
}

data "coder_parameter" "template_arch" {
  name         = "template_arch"
  display_name = "Architecture"
  description  = "The architecture of the node."
  type         = "string"
  form_type    = "dropdown"
  default      = local.default_arch
  mutable      = true
  order        = 4

  dynamic "option" {
    for_each = distinct(flatten([for variant in local.variants : variant.architectures]))

    content {
      name  = option.value
      value = option.value
    }
  }
}

data "coder_parameter" "template_url" {
  for_each = local.variants

  name         = "template_url_${each.key}"
  display_name = "Template URL: ${each.value.title}"
  description  = "Where Proxmox downloads the template of a new container; empty for the one in its storage."
  type         = "string"
  default      = local.default_urls[each.key]
  mutable      = true
  order        = 90

  validation {
    regex = "^$|^https?://[^\\s#'\"\\\\]+/[A-Za-z0-9_.-]+\\.tar\\.(xz|gz|zst)#sha256=[0-9a-f]{64}$"
    error = "Expected https://…/name.tar.xz#sha256=<64 hex digits>, or nothing."
  }
}

data "coder_parameter" "rebuild_generation" {
  name         = "rebuild_generation"
  display_name = "Rebuild"
  description  = "Raise it by one to replace the root disk by a fresh one at the next start. The home disk stays."
  type         = "number"
  default      = 0
  mutable      = true
  order        = 5

  validation {
    min       = 0
    monotonic = "increasing"
  }
}

data "coder_parameter" "proxmox_vm_id" {
  name         = "proxmox_vm_id"
  display_name = "Container id"
  description  = "A fixed id of a new container; 0 for a free one."
  type         = "number"
  default      = 0
  mutable      = true
  order        = 70
}

data "coder_parameter" "container_memory_mb" {
  name         = "container_memory_mb"
  display_name = "Memory (MiB)"
  description  = "The memory of the workspace."
  type         = "number"
  default      = 4096
  mutable      = true
  order        = 6

  validation {
    min = 512
    max = 262144
  }
}

data "coder_parameter" "container_cores" {
  name         = "container_cores"
  display_name = "Cores"
  description  = "The processor cores of the workspace."
  type         = "number"
  default      = 2
  mutable      = true
  order        = 7

  validation {
    min = 1
    max = 128
  }
}

data "coder_parameter" "container_disk_gb" {
  name         = "container_disk_gb"
  display_name = "Root disk (GiB)"
  description  = "The root disk. It can grow and never shrink."
  type         = "number"
  default      = 20
  mutable      = true
  order        = 8

  # Proxmox cannot shrink a disk: the provider would make a new container, with an empty disk.
  validation {
    min       = 8
    max       = 2048
    monotonic = "increasing"
  }
}

data "coder_parameter" "enable_home_disk" {
  name         = "enable_home_disk"
  display_name = "Home disk"
  description  = "Keep /home/coder on a disk of its own, which outlives a rebuild."
  type         = "bool"
  form_type    = "switch"
  default      = false
  mutable      = false
  order        = 9
}

data "coder_parameter" "home_disk_gb" {
  count = local.home_disks

  name         = "home_disk_gb"
  display_name = "Home disk (GiB)"
  description  = "The size of a new home disk; docs/how-to/home-disks.md tells how one grows."
  type         = "number"
  default      = 30
  mutable      = true
  order        = 10

  validation {
    min = 1
    max = 4096
  }
}

data "coder_parameter" "proxmox_home_datastore_id" {
  count = local.home_disks

  name         = "proxmox_home_datastore_id"
  display_name = "Home storage"
  description  = "The storage of a new home disk; empty for that of the root disk."
  type         = "string"
  default      = ""
  mutable      = true
  order        = 11

  validation {
    regex = "^([A-Za-z][A-Za-z0-9_.-]*)?$"
    error = "Expected the name of a storage."
  }
}

data "coder_parameter" "proxmox_home_volume_id" {
  count = local.home_disks

  name         = "proxmox_home_volume_id"
  display_name = "Existing home volume"
  description  = "A volume to use as home disk, such as local-lvm:vm-20131-disk-1; empty for the workspace's own. A change rebuilds the container."
  type         = "string"
  default      = ""
  mutable      = true
  order        = 12

  # It becomes part of a property string: neither a path of the host nor another option may get in.
  validation {
    regex = "^$|^[A-Za-z][A-Za-z0-9_.-]*:([0-9]+/)?(vm|subvol)-[0-9]+-disk-[A-Za-z0-9_]+(\\.(raw|subvol))?$"
    error = "Expected a volume such as local-lvm:vm-20131-disk-1 or local:20131/vm-20131-disk-1.raw."
  }
}

data "coder_parameter" "enable_nesting" {
  name         = "enable_nesting"
  display_name = "Nesting"
  description  = "Allow containers inside of the workspace. Weakens the isolation from the host."
  type         = "bool"
  form_type    = "switch"
  default      = false
  mutable      = false
  order        = 71
}

data "coder_parameter" "egress_mode" {
  name         = "egress_mode"
  display_name = "Network"
  description  = "What the workspace reaches."
  type         = "string"
  form_type    = "dropdown"
  default      = "open"
  mutable      = false
  order        = 72

  option {
    name        = "Open"
    value       = "open"
    description = "Everything"
  }
  option {
    name        = "Restricted"
    value       = "restricted"
    description = "Names, web sites, Git over SSH, and the operator's networks"
  }
  option {
    name        = "Airgapped"
    value       = "airgapped"
    description = "Only the operator's networks"
  }
}

data "coder_parameter" "proxmox_ssh_private_key" {
  name         = "proxmox_ssh_private_key"
  display_name = "Root SSH key"
  description  = "The private key that sets the container up; empty for your key in Coder. Its public half goes below."
  type         = "string"
  form_type    = "textarea"
  styling      = jsonencode({ mask_input = true })
  default      = ""
  mutable      = true
  order        = 80
}

data "coder_parameter" "proxmox_extra_ssh_public_keys" {
  name         = "proxmox_extra_ssh_public_keys"
  display_name = "Root SSH public keys"
  description  = "Public keys that may log in as root, one a line."
  type         = "string"
  form_type    = "textarea"
  default      = ""
  mutable      = true
  order        = 81

  validation {
    regex = "^((ssh|ecdsa|sk)-[^\\n'\"]*\\n*)*$"
    error = "Expected public keys as in authorized_keys, one a line."
  }
}

locals {
  is_custom   = module.workspace.image_variant == "custom"
  home_disks  = data.coder_parameter.enable_home_disk.value == "true" ? 1 : 0
  egress_mode = data.coder_parameter.egress_mode.value
}
