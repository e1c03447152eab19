terraform {
  required_version = ">= 1.9"

  required_providers {
    coder = {
      source  = "coder/coder"
      version = ">= 2.16"
    }
    docker = {
      source  = "kreuzwerker/docker"
      version = ">= 3.6, < 5.0"
    }
  }
}

provider "docker" {
  host = var.docker_host == "" ? null : var.docker_host
}

data "coder_provisioner" "me" {}

data "coder_workspace" "me" {}

data "coder_workspace_owner" "me" {}

module "workspace" {
  source = "./modules/workspace"

  variants = local.variants
  arch     = data.coder_provisioner.me.arch
}
