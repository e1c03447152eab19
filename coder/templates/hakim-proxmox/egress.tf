# Enforced by Proxmox outside of the container, where no root inside of it can reach.

locals {
  filtered = local.egress_mode != "open"

  egress_rules = concat(
    [for cidr in var.proxmox_egress_cidrs : { comment = "the operator's networks", dest = cidr, proto = null, dport = null }],
    local.egress_mode != "restricted" ? [] : [
      { comment = "names", dest = null, proto = "udp", dport = "53" },
      { comment = "names", dest = null, proto = "tcp", dport = "53" },
      { comment = "web sites and Git over SSH", dest = null, proto = "tcp", dport = "22,80,443" },
    ],
  )
}

resource "proxmox_virtual_environment_firewall_options" "workspace" {
  count = local.filtered ? 1 : 0

  node_name     = proxmox_virtual_environment_container.workspace.node_name
  container_id  = proxmox_virtual_environment_container.workspace.vm_id
  enabled       = true
  dhcp          = true
  input_policy  = "ACCEPT"
  output_policy = "DROP"

  lifecycle {
    # A new container starts without any filter.
    replace_triggered_by = [proxmox_virtual_environment_container.workspace.id]

    precondition {
      condition     = var.proxmox_network_firewall
      error_message = "The network mode '${local.egress_mode}' needs the template variable proxmox_network_firewall."
    }
    precondition {
      condition     = length(var.proxmox_egress_cidrs) > 0
      error_message = "The network mode '${local.egress_mode}' needs Coder's network in the template variable proxmox_egress_cidrs."
    }
  }
}

resource "proxmox_virtual_environment_firewall_rules" "workspace" {
  count = local.filtered ? 1 : 0

  node_name    = proxmox_virtual_environment_container.workspace.node_name
  container_id = proxmox_virtual_environment_container.workspace.vm_id

  dynamic "rule" {
    for_each = local.egress_rules

    content {
      type    = "out"
      action  = "ACCEPT"
      comment = rule.value.comment
      dest    = rule.value.dest
      proto   = rule.value.proto
      dport   = rule.value.dport
    }
  }

  lifecycle {
    replace_triggered_by = [proxmox_virtual_environment_container.workspace.id]
  }

  depends_on = [proxmox_virtual_environment_firewall_options.workspace]
}
