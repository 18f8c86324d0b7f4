# For production: a database without a public address and with a standby, webhooks called from a reserved address, the
# API for one group only, alerts by e-mail.
#
# Reserve the address first:
#   gcloud compute addresses create insignia-egress --region=europe-west1

variable "project_id" {
  description = "Google Cloud project."
  type        = string
  default     = "your-project-id"
}

module "insignia" {
  source = "../.."

  project_id = var.project_id
  region     = "europe-west1"
  labels     = { environment = "production" }

  private_network  = true
  egress_addresses = ["insignia-egress"]
  api_invokers     = ["group:webhook-owners@example.com"]

  database_tier              = "db-custom-1-3840"
  database_high_availability = true
  api_max_instances          = 4
  read_token                 = true

  notification_email = "ops@example.com"
}

output "insignia" {
  description = "URLs and commands."
  value       = module.insignia
}
