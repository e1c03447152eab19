locals {
  variants = yamldecode(file("${path.module}/variants.yaml")).variants
  release  = jsondecode(file("${path.module}/release.json"))

  # The images of the release this template was pushed with, by digest; else the newest there is.
  release_images = {
    for image in local.release.images : image.variant => image.image
    if image.image != "" && image.release == "trixie" && image.arch == data.coder_provisioner.me.arch
  }
  variant = module.workspace.image_variant
  image = (
    local.is_custom
    ? one(data.coder_parameter.image_url[*].value)
    : lookup(local.release_images, local.variant, "${var.image_repository}-${local.variant}:latest")
  )

  name = lower("coder-${data.coder_workspace_owner.me.name}-${data.coder_workspace.me.name}")
  labels = {
    "coder.owner"          = data.coder_workspace_owner.me.name
    "coder.owner_id"       = data.coder_workspace_owner.me.id
    "coder.workspace_id"   = data.coder_workspace.me.id
    "coder.workspace_name" = data.coder_workspace.me.name
  }

  # Inside of a container this machine is not what localhost means.
  init_script = replace(module.workspace.init_script, "/localhost|127\\.0\\.0\\.1/", "host.docker.internal")
}

resource "docker_volume" "home" {
  name = "coder-${data.coder_workspace.me.id}-home"

  dynamic "labels" {
    for_each = local.labels

    content {
      label = labels.key
      value = labels.value
    }
  }

  lifecycle {
    # Whatever changes: a replaced volume is a lost home.
    ignore_changes = all
  }
}

resource "docker_container" "workspace" {
  count = data.coder_workspace.me.start_count

  name     = local.name
  hostname = lower(data.coder_workspace.me.name)
  image    = local.image
  user     = "coder"

  # The images boot an init in LXC; here the agent is all that runs.
  entrypoint = ["/bin/sh", "-c", local.init_script]
  env        = ["CODER_AGENT_TOKEN=${module.workspace.agent_token}", "HOME=/home/coder"]

  working_dir = "/home/coder"
  init        = true
  memory      = try(tonumber(data.coder_parameter.container_memory[0].value), 0)
  cpus        = try(data.coder_parameter.container_cpus[0].value == "0" ? null : data.coder_parameter.container_cpus[0].value, null)

  host {
    host = "host.docker.internal"
    ip   = "host-gateway"
  }

  # A new volume takes over the files, and their owners, of the folder that it covers.
  volumes {
    container_path = "/home/coder"
    volume_name    = docker_volume.home.name
  }

  dynamic "labels" {
    for_each = local.labels

    content {
      label = labels.key
      value = labels.value
    }
  }

  lifecycle {
    precondition {
      condition     = !local.is_custom || local.image != ""
      error_message = "The variant 'custom' needs an image, such as docker.io/library/debian:trixie."
    }
  }
}
