# What only the Docker template asks; the rest is in modules/workspace.

data "coder_parameter" "image_url" {
  count = local.is_custom ? 1 : 0

  name         = "image_url"
  display_name = "Image"
  description  = "The image of the workspace, such as docker.io/library/debian:trixie. It needs a user 'coder'."
  type         = "string"
  default      = ""
  mutable      = true
  order        = 2
}

data "coder_parameter" "enable_resource_limits" {
  name         = "enable_resource_limits"
  display_name = "Resource limits"
  description  = "Limit memory and processors of the workspace."
  type         = "bool"
  form_type    = "switch"
  default      = false
  mutable      = false
  order        = 6
}

data "coder_parameter" "container_memory" {
  count = local.limits

  name         = "container_memory"
  display_name = "Memory (MiB)"
  description  = "The memory of the workspace; 0 for no limit."
  type         = "number"
  default      = 0
  mutable      = true
  order        = 7

  validation {
    min = 0
    max = 1048576
  }
}

data "coder_parameter" "container_cpus" {
  count = local.limits

  name         = "container_cpus"
  display_name = "Processors"
  description  = "The processors of the workspace, such as 1.5; 0 for no limit."
  type         = "string"
  default      = "0"
  mutable      = true
  order        = 8

  validation {
    regex = "^[0-9]{1,4}(\\.[0-9]{1,2})?$"
    error = "Expected a number such as 1.5."
  }
}

locals {
  is_custom = module.workspace.image_variant == "custom"
  limits    = data.coder_parameter.enable_resource_limits.value == "true" ? 1 : 0
}
