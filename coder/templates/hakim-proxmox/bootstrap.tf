# Sets the running container up over SSH at every start, and gives the agent its new token.

locals {
  own_key          = data.coder_parameter.proxmox_ssh_private_key.value
  root_private_key = local.own_key != "" ? "${trimspace(replace(local.own_key, "\r", ""))}\n" : data.coder_workspace_owner.me.ssh_private_key
  extra_keys       = [for key in split("\n", data.coder_parameter.proxmox_extra_ssh_public_keys.value) : trimspace(key) if trimspace(key) != ""]
  root_public_keys = distinct(compact(concat([trimspace(data.coder_workspace_owner.me.ssh_public_key)], local.extra_keys)))

  # The image of trixie has this password, because Proxmox sets none in an unmanaged container;
  # elsewhere Proxmox sets one that only the owner of the key can work out. Both are gone after the
  # first bootstrap.
  bootstrap_password = (
    local.ostype == "unmanaged"
    ? "password"
    : substr(sha256("hakim bootstrap ${data.coder_workspace.me.id} ${local.root_private_key}"), 0, 40)
  )

  address_file = "${path.module}/.address-"
}

# Terraform knows a container's address only if it came within ten seconds, so ask again.
resource "terraform_data" "address" {
  count = local.running

  triggers_replace = [sha256(module.workspace.agent_token)]

  lifecycle {
    precondition {
      condition     = nonsensitive(local.root_private_key != "")
      error_message = "There is no SSH key to set the container up with: give one, or make one in Coder under Account, SSH keys."
    }
    precondition {
      condition     = local.own_key == "" || length(local.extra_keys) > 0
      error_message = "A root SSH key of your own needs its public half in the root SSH public keys, or nobody could log in at the next start."
    }
  }

  provisioner "local-exec" {
    command     = "exec sh \"$HAKIM_SCRIPT\""
    interpreter = ["/bin/sh", "-c"]

    environment = merge(local.proxmox_environment, {
      HAKIM_SCRIPT  = "${path.module}/scripts/find-address.sh"
      HAKIM_VMID    = proxmox_virtual_environment_container.workspace.vm_id
      HAKIM_NODE    = proxmox_virtual_environment_container.workspace.node_name
      HAKIM_ADDRESS = try(proxmox_virtual_environment_container.workspace.ipv4["eth0"], "")
      HAKIM_SECONDS = 120
      HAKIM_FILE    = "${local.address_file}${self.id}"
    })
  }
}

resource "terraform_data" "bootstrap" {
  count = local.running

  triggers_replace = [sha256(module.workspace.agent_token)]

  connection {
    type        = "ssh"
    user        = "root"
    host        = trimspace(file("${local.address_file}${terraform_data.address[0].id}"))
    private_key = local.root_private_key
    password    = local.bootstrap_password
    agent       = false
    timeout     = "3m"
    script_path = "/root/.hakim-run.sh"
  }

  provisioner "remote-exec" {
    inline = ["install --directory --mode 0700 /root/.hakim"]
  }

  provisioner "file" {
    content     = file("${path.module}/scripts/bootstrap.sh")
    destination = "/root/.hakim/bootstrap.sh"
  }

  # The folder keeps it from everybody but root, and the script removes it.
  provisioner "file" {
    content = join("\n", [for name, value in {
      AGENT_TOKEN     = module.workspace.agent_token
      AGENT_URL       = data.coder_workspace.me.access_url
      AGENT_ARCH      = local.chosen_arch
      HOME_DISK       = tostring(local.home_disks == 1)
      ROOT_PUBLIC_KEY = join("\n", local.root_public_keys)
    } : "${name}='${base64encode(value)}'"])
    destination = "/root/.hakim/settings"
  }

  provisioner "remote-exec" {
    inline = ["bash /root/.hakim/bootstrap.sh"]
  }
}
