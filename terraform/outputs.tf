locals {
  urls       = { for f in var.http_functions : f => google_cloudfunctions2_function.function[f].service_config[0].uri }
  tasks_url  = try(local.urls["api"], local.urls["tasks"], null)
  read_token = "gcloud secrets versions access latest --secret=${google_secret_manager_secret.token["API_TOKEN"].secret_id} --project=${var.project_id}"
}

output "api_url" {
  description = "Where the API is; null where it is deployed in parts without `tasks`."
  value       = local.tasks_url
}

output "urls" {
  description = "URL of each function of the API."
  value       = local.urls
}

output "tick_function" {
  description = "Name of the function that Cloud Scheduler calls every minute, and of its job."
  value       = google_cloudfunctions2_function.tick.name
}

output "database_instance" {
  description = "Connection name of the database."
  value       = local.database_connection
}

output "dashboard_url" {
  description = "The dashboard in Cloud Monitoring."
  value       = "https://console.cloud.google.com/monitoring/dashboards/builder/${reverse(split("/", google_monitoring_dashboard.main.id))[0]}?project=${var.project_id}"
}

output "read_token_command" {
  description = "Prints the API token, which Terraform itself does not know."
  value       = local.read_token
}

output "curl_command" {
  description = "Lists the tasks."
  value       = local.tasks_url == null ? null : "curl -H \"Authorization: Bearer $(${local.read_token})\" ${local.tasks_url}/tasks/"
}

output "egress_addresses_command" {
  description = "Prints the addresses from which webhooks are called; null without egress_addresses."
  value       = !local.has_egress_addresses ? null : "gcloud compute addresses list --project=${var.project_id} --filter='region:${var.region} AND name:(${join(" ", var.egress_addresses)})' --format='value(address)'"
}

output "dead_letters_command" {
  description = "Shows the messages that no worker took; null without workers."
  value       = !local.has_workers ? null : "gcloud pubsub subscriptions pull ${google_pubsub_subscription.dead_letters[0].name} --project=${var.project_id} --limit=10"
}

output "next_steps" {
  description = "What to do now."
  value       = <<-TEXT
    The first tick, within a minute, makes the tables; from the second on, Insignia is ready.

    1. See that it is healthy:   curl -H "Authorization: Bearer $(${local.read_token})" ${try(local.urls["api"], local.urls["health"], "https://(no function serves it)")}/health
    2. Read the token:           ${local.read_token}
    3. Try every route:          ${try("${local.urls["api"]}/docs", "deploy `api` for the documentation")}
    4. Watch it:                 open the output dashboard_url
  TEXT
}
