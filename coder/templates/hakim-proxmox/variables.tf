# What belongs to the operator of the Proxmox cluster: set once, when the template is pushed.

variable "proxmox_endpoint" {
  description = "The address of the Proxmox API without a path, such as https://pve.example.com:8006/."
  type        = string

  validation {
    condition     = can(regex("^https://[^/\\s]+/?$", var.proxmox_endpoint))
    error_message = "proxmox_endpoint must be an https:// address without a path, such as https://pve.example.com:8006/."
  }
}

variable "proxmox_api_token" {
  description = "The API token as user@realm!name=secret; the README lists the rights it needs."
  type        = string
  sensitive   = true

  validation {
    condition     = can(regex("^[^\\s@!=\"]+@[^\\s@!=\"]+![^\\s@!=\"]+=[^\\s\"\\\\]+$", var.proxmox_api_token))
    error_message = "proxmox_api_token must have the form user@realm!name=secret."
  }
}

variable "proxmox_insecure" {
  description = "Whether to skip the check of Proxmox's certificate. Better: make the provisioner trust its CA (SSL_CERT_FILE)."
  type        = bool
  default     = false
}

variable "proxmox_node_name" {
  description = "The node that new workspaces are made on."
  type        = string
  default     = "pve"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]*$", var.proxmox_node_name))
    error_message = "proxmox_node_name must be the name of a node, such as pve."
  }
}

variable "proxmox_pool_id" {
  description = "The pool that new workspaces join; empty for none."
  type        = string
  default     = ""
}

variable "proxmox_container_datastore_id" {
  description = "The storage of root and home disks."
  type        = string
  default     = "local-lvm"
}

variable "proxmox_template_datastore_id" {
  description = "The storage that holds the container templates (content type vztmpl)."
  type        = string
  default     = "local"
}

variable "proxmox_network_bridge" {
  description = "The bridge that workspaces are connected to; it needs DHCP, and Coder must reach its addresses."
  type        = string
  default     = "vmbr0"
}

variable "proxmox_vlan_id" {
  description = "The VLAN of the workspaces; 0 for none."
  type        = number
  default     = 0

  validation {
    condition     = var.proxmox_vlan_id >= 0 && var.proxmox_vlan_id <= 4094 && floor(var.proxmox_vlan_id) == var.proxmox_vlan_id
    error_message = "proxmox_vlan_id must be a whole number from 0 to 4094."
  }
}

variable "proxmox_network_firewall" {
  description = "Whether Proxmox's firewall filters the network interface; egress modes other than open need it."
  type        = bool
  default     = false
}

variable "proxmox_egress_cidrs" {
  description = "Networks that workspaces reach in every egress mode; they must hold Coder's address."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.proxmox_egress_cidrs : can(cidrhost(cidr, 0))])
    error_message = "proxmox_egress_cidrs must be networks such as 10.0.0.0/24."
  }
}

variable "container_ostype" {
  description = "How Proxmox sets a new container up: debian, unmanaged, or auto (unmanaged for trixie, debian for older releases)."
  type        = string
  default     = "auto"

  validation {
    condition     = contains(["auto", "debian", "unmanaged"], var.container_ostype)
    error_message = "container_ostype must be auto, debian or unmanaged."
  }
}
