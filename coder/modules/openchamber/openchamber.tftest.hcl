mock_provider "coder" {}

variables {
  agent_id = "agent"
  workdir  = "/home/coder/project"
}

run "defaults" {
  command = plan

  assert {
    condition     = resource.coder_app.web.url == "http://127.0.0.1:6904" && resource.coder_app.web.share == "owner"
    error_message = "The app must reach the server on this machine, for its owner only."
  }
}

run "password_stays_out_of_the_script" {
  command = plan

  variables {
    ui_password = "s3cret"
  }

  assert {
    condition     = !strcontains(resource.coder_script.start.script, base64encode("s3cret")) && !strcontains(resource.coder_script.start.script, "s3cret")
    error_message = "A script stands in the arguments of a process."
  }
}

run "two_servers_need_two_ports" {
  command = plan
  variables {
    port = 4096
  }
  expect_failures = [coder_script.start]
}

run "port_is_a_port" {
  command = plan
  variables {
    port = 6904.5
  }
  expect_failures = [var.port]
}

run "version_is_a_version" {
  command = plan
  variables {
    openchamber_version = "$(id)"
  }
  expect_failures = [var.openchamber_version]
}

run "workdir_is_absolute" {
  command = plan
  variables {
    workdir = ""
  }
  expect_failures = [var.workdir]
}
