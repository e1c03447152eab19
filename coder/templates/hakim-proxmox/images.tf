# Which template a new container is made from. Both files are packed with the template.

locals {
  variants = yamldecode(file("${path.module}/variants.yaml")).variants
  release  = jsondecode(file("${path.module}/release.json"))

  default_release = "trixie"
  default_arch    = "amd64"

  # URL of each image of the release, with the checksum that Proxmox proves.
  release_urls = {
    for image in local.release.images :
    "${image.variant}-${image.release}-${image.arch}" => "${image.url}#sha256=${image.sha256}"
    if image.url != ""
  }

  default_urls = {
    for name, _ in local.variants :
    name => lookup(local.release_urls, "${name}-${local.default_release}-${local.default_arch}", "")
  }

  chosen_release = data.coder_parameter.template_release.value
  chosen_arch    = data.coder_parameter.template_arch.value

  # A URL that somebody typed wins; an untouched one follows the chosen release and architecture.
  template_url_map = {
    for name, parameter in data.coder_parameter.template_url : name => (
      parameter.value != local.default_urls[name]
      ? parameter.value
      : lookup(local.release_urls, "${name}-${local.chosen_release}-${local.chosen_arch}", "")
    )
  }

  variant       = module.workspace.image_variant
  template_url  = lookup(local.template_url_map, local.variant, "")
  template_name = "hakim-${local.variant}-${local.chosen_release}-${local.chosen_arch}"

  # A downloaded file carries its checksum in its name: another build never meets an old file.
  template_sha256    = try(split("#sha256=", local.template_url)[1], "")
  template_link      = split("#", local.template_url)[0]
  template_suffix    = try(regex("\\.tar\\.[a-z0-9]+$", local.template_link), ".tar.xz")
  template_file_name = local.template_url == "" ? "${local.template_name}.tar.xz" : "${local.template_name}_${substr(local.template_sha256, 0, 16)}${local.template_suffix}"

  template_file_id = (
    local.is_custom
    ? one(data.coder_parameter.custom_template_file_id[*].value)
    : "${var.proxmox_template_datastore_id}:vztmpl/${local.template_file_name}"
  )

  ostype = (
    var.container_ostype != "auto" ? var.container_ostype :
    local.chosen_release == "trixie" ? "unmanaged" : "debian"
  )
}

# Proxmox fetches the file itself, proves its checksum and keeps it: the file belongs to all
# workspaces, so that nothing here deletes it. A file that is there already is only proven again.
resource "terraform_data" "template" {
  count = local.template_url == "" || local.is_custom ? 0 : 1

  triggers_replace = [terraform_data.generation.id]

  provisioner "local-exec" {
    command     = "exec sh \"$HAKIM_SCRIPT\""
    interpreter = ["/bin/sh", "-c"]

    environment = merge(local.proxmox_environment, {
      HAKIM_SCRIPT    = "${path.module}/scripts/fetch-template.sh"
      HAKIM_STORAGE   = var.proxmox_template_datastore_id
      HAKIM_FILE_NAME = local.template_file_name
      HAKIM_URL       = local.template_link
      HAKIM_SHA256    = local.template_sha256
    })
  }
}

locals {
  # The secret goes to scripts by the environment, which Terraform does not print.
  proxmox_environment = {
    HAKIM_LIBRARY   = "${path.module}/scripts/proxmox.sh"
    HAKIM_ENDPOINT  = trimsuffix(var.proxmox_endpoint, "/")
    HAKIM_API_TOKEN = nonsensitive(var.proxmox_api_token)
    HAKIM_INSECURE  = tostring(var.proxmox_insecure)
    HAKIM_NODE      = var.proxmox_node_name
  }
}
