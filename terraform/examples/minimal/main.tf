# The least that is needed: cheap, public API behind its token, alerts shown in Cloud Monitoring.

variable "project_id" {
  description = "Google Cloud project."
  type        = string
  default     = "your-project-id"
}

module "insignia" {
  source = "../.."

  project_id = var.project_id
  region     = "europe-west1"
}

output "insignia" {
  description = "URLs and commands."
  value       = module.insignia
}
