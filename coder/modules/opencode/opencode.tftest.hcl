mock_provider "coder" {}

variables {
  agent_id = "agent"
  workdir  = "/home/coder/project"
}

run "defaults" {
  command = plan

  assert {
    condition     = resource.coder_app.web.url == "http://127.0.0.1:4096" && resource.coder_app.web.share == "owner"
    error_message = "The app must reach the server on this machine, for its owner only."
  }
  assert {
    condition     = length(resource.coder_app.cli) == 1
    error_message = "There must be an app for the terminal."
  }
}

run "secrets_stay_out_of_the_script" {
  command = plan

  variables {
    auth_json = "{\"anthropic\": {\"key\": \"s3cret\"}}"
  }

  assert {
    condition     = !strcontains(resource.coder_script.start.script, base64encode("{\"anthropic\":{\"key\":\"s3cret\"}}"))
    error_message = "A script stands in the arguments of a process."
  }
}

run "workdir_is_absolute" {
  command = plan
  variables {
    workdir = "project"
  }
  expect_failures = [var.workdir]
}

run "port_is_a_port" {
  command = plan
  variables {
    port = 80
  }
  expect_failures = [var.port]
}

run "auth_is_an_object" {
  command = plan
  variables {
    auth_json = "[]"
  }
  expect_failures = [var.auth_json]
}

run "config_is_an_object" {
  command = plan
  variables {
    config_json = "{"
  }
  expect_failures = [var.config_json]
}

run "version_is_a_version" {
  command = plan
  variables {
    opencode_version = "1.0; rm -rf /"
  }
  expect_failures = [var.opencode_version]
}

run "hostname_is_a_host" {
  command = plan
  variables {
    hostname = "' ; evil"
  }
  expect_failures = [var.hostname]
}
