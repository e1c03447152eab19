variable "variants" {
  description = "The variants as variants.yaml describes them, by name."
  type        = any
}

variable "arch" {
  description = "The architecture of the workspace by Debian's name."
  type        = string
}

variable "extra_env" {
  description = "Environment variables that the template itself sets."
  type        = map(string)
  default     = {}
}

variable "offline" {
  description = "Whether the workspace reaches nothing but Coder: then nothing is downloaded at start."
  type        = bool
  default     = false
}
