mock_provider "coder" {}

variables {
  agent_id    = "agent"
  bridge_host = "gateway.example.com"
}

run "defaults" {
  command = plan

  assert {
    condition     = strcontains(resource.coder_script.start.script, "--host 'gateway.example.com' --port '18790'")
    error_message = "The node must join the gateway that was given."
  }
}

run "token_stays_out_of_the_script" {
  command = plan

  variables {
    gateway_token = "s3cret"
  }

  assert {
    condition     = !strcontains(resource.coder_script.start.script, base64encode("s3cret")) && !strcontains(resource.coder_script.start.script, "s3cret")
    error_message = "A script stands in the arguments of a process."
  }
}

run "host_is_a_host" {
  command = plan
  variables {
    bridge_host = "a'b"
  }
  expect_failures = [var.bridge_host]
}

run "fingerprint_is_one" {
  command = plan
  variables {
    bridge_tls             = true
    bridge_tls_fingerprint = "AA:BB"
  }
  expect_failures = [var.bridge_tls_fingerprint]
}

run "fingerprint_needs_tls" {
  command = plan
  variables {
    bridge_tls_fingerprint = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  }
  expect_failures = [coder_script.start]
}

run "approving_needs_the_token" {
  command = plan
  variables {
    auto_approve_pairing = true
  }
  expect_failures = [coder_script.start]
}

run "gateway_url_is_a_websocket" {
  command = plan
  variables {
    gateway_ws_url = "http://gateway"
  }
  expect_failures = [var.gateway_ws_url]
}
