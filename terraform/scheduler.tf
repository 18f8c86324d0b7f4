resource "google_cloud_scheduler_job" "tick" {
  project     = var.project_id
  region      = var.region
  name        = local.names["tick"]
  description = "Insignia: calls tick every minute"
  schedule    = "* * * * *"
  time_zone   = "Etc/UTC"
  paused      = var.paused

  attempt_deadline = "${local.timeout_seconds}s"

  # The next minute is the retry. Cloud Scheduler starts no second attempt while one is under way.
  retry_config {
    retry_count = 0
  }

  http_target {
    http_method = "POST"
    uri         = "${google_cloudfunctions2_function.tick.service_config[0].uri}/tick"
    oidc_token {
      service_account_email = local.emails["scheduler"]
      audience              = google_cloudfunctions2_function.tick.service_config[0].uri
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.tick, google_cloud_run_v2_service_iam_member.migrate]
}
