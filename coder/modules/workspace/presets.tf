data "coder_workspace_preset" "variant" {
  for_each = var.variants

  name        = each.value.preset.name
  description = each.value.description
  icon        = each.value.icon
  default     = try(each.value.preset.default, false)
  parameters  = merge({ image_variant = each.key }, each.value.preset.parameters)
}
