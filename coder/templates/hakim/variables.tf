variable "docker_host" {
  description = "The address of the Docker Engine, such as unix:///var/run/docker.sock; empty for Docker's own default."
  type        = string
  default     = ""
}

variable "image_repository" {
  description = "Where the images of the variants are, without the variant's name, such as ghcr.io/owner/hakim."
  type        = string
  default     = "ghcr.io/hakim/hakim"

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9./:_-]*[a-z0-9]$", var.image_repository))
    error_message = "image_repository must be a repository such as ghcr.io/owner/hakim."
  }
}
