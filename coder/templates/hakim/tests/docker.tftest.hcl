# With mock providers: what the template decides by itself.

mock_provider "docker" {}

mock_provider "coder" {
  mock_data "coder_workspace" {
    defaults = {
      start_count = 1
      id          = "6c1b8a0e-0000-4000-8000-000000000001"
      name        = "Dev"
    }
  }
  mock_data "coder_workspace_owner" {
    defaults = {
      name = "Alice"
    }
  }
  mock_data "coder_provisioner" {
    defaults = {
      arch = "amd64"
    }
  }
}

override_module {
  target = module.workspace
  outputs = {
    image_variant = "base"
    agent_id      = "agent"
    agent_token   = "token"
    init_script   = "echo http://localhost:3000"
  }
}

override_data {
  target = data.coder_parameter.enable_resource_limits
  values = { value = "false" }
}

run "a_new_workspace" {
  command = plan

  assert {
    condition     = resource.docker_container.workspace[0].image == "ghcr.io/hakim/hakim-base:latest"
    error_message = "The variant chooses the image."
  }
  assert {
    condition     = resource.docker_volume.home.name == "coder-6c1b8a0e-0000-4000-8000-000000000001-home"
    error_message = "The home is named after the id, which no renaming changes."
  }
  assert {
    condition     = strcontains(resource.docker_container.workspace[0].entrypoint[2], "http://host.docker.internal:3000")
    error_message = "Inside of a container, localhost is not Coder."
  }
}

run "a_stopped_workspace_keeps_its_home" {
  command = plan

  override_data {
    target = data.coder_workspace.me
    values = { start_count = 0, id = "6c1b8a0e-0000-4000-8000-000000000001", name = "dev" }
  }

  assert {
    condition     = length(resource.docker_container.workspace) == 0 && resource.docker_volume.home.name != ""
    error_message = "Only the container goes."
  }
}

run "custom_needs_an_image" {
  command = plan

  override_module {
    target = module.workspace
    outputs = {
      image_variant = "custom"
      agent_id      = "agent"
      agent_token   = "token"
      init_script   = ""
    }
  }
  override_data {
    target = data.coder_parameter.image_url
    values = { value = "" }
  }

  expect_failures = [docker_container.workspace]
}

run "repository_is_a_repository" {
  command = plan

  variables {
    image_repository = "ghcr.io/Owner/hakim "
  }

  expect_failures = [var.image_repository]
}
