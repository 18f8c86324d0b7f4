resource "google_service_account" "function" {
  for_each = local.functions

  project      = var.project_id
  account_id   = local.names[each.key]
  display_name = "Insignia: function ${each.key}"

  depends_on = [google_project_service.api]
}

resource "google_service_account" "scheduler" {
  project      = var.project_id
  account_id   = "${var.name}-scheduler"
  display_name = "Insignia: calls tick every minute"

  depends_on = [google_project_service.api]
}

resource "google_service_account" "build" {
  project      = var.project_id
  account_id   = "${var.name}-build"
  display_name = "Insignia: builds the functions"

  depends_on = [google_project_service.api]
}

locals {
  # Made of account_id, not read from `email`: so a plan, and a test of a plan, says who gets what.
  emails = {
    for key, account in merge(
      google_service_account.function,
      { scheduler = google_service_account.scheduler, build = google_service_account.build },
      { for account in google_service_account.pubsub : "pubsub" => account },
    ) : key => "${account.account_id}@${var.project_id}.iam.gserviceaccount.com"
  }
  members        = { for key, email in local.emails : key => "serviceAccount:${email}" }
  database_users = { for f in keys(local.functions) : f => trimsuffix(local.emails[f], ".gserviceaccount.com") }
}
