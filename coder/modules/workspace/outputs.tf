output "image_variant" {
  description = "The variant that was chosen, or custom."
  value       = data.coder_parameter.image_variant.value
}

output "agent_id" {
  description = "The agent."
  value       = coder_agent.main.id
}

output "agent_token" {
  description = "The agent's token; a new one at every build."
  value       = coder_agent.main.token
  sensitive   = true
}

output "init_script" {
  description = "The script that downloads and starts the agent."
  value       = coder_agent.main.init_script
}
