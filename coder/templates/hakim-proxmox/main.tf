terraform {
  required_version = ">= 1.9"

  required_providers {
    coder = {
      source  = "coder/coder"
      version = ">= 2.16"
    }
    proxmox = {
      source  = "bpg/proxmox"
      version = ">= 0.111, < 1.0"
    }
  }
}

provider "proxmox" {
  endpoint  = var.proxmox_endpoint
  api_token = var.proxmox_api_token
  insecure  = var.proxmox_insecure

  # Coder runs many builds at once; asking for the next free id would give two of them the same.
  random_vm_ids = true
}

data "coder_workspace" "me" {}

data "coder_workspace_owner" "me" {}

module "workspace" {
  source = "./modules/workspace"

  variants = local.variants
  arch     = data.coder_parameter.template_arch.value
  offline  = local.egress_mode == "airgapped"
}
