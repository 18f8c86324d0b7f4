# Nothing of this is made unless `workers` asks for it: what wakes instances of `deliver` when more is due than one tick
# can deliver. A message says nothing; PostgreSQL says what is due. So nothing is lost with a message.

locals {
  has_workers   = var.workers > 0
  pubsub_agent  = "serviceAccount:service-${google_storage_bucket.source.project_number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  deliver_topic = "projects/${var.project_id}/topics/${local.names_of_workers.topic}"
  names_of_workers = {
    topic        = "${var.name}-deliver"
    dead_letters = "${var.name}-deliver-dead-letters"
    account      = "${var.name}-pubsub"
  }
}

resource "google_service_account" "pubsub" {
  count = local.has_workers ? 1 : 0

  project      = var.project_id
  account_id   = local.names_of_workers.account
  display_name = "Insignia: wakes workers"

  depends_on = [google_project_service.api]
}

resource "google_pubsub_topic" "deliver" {
  count = local.has_workers ? 1 : 0

  project = var.project_id
  name    = local.names_of_workers.topic
  labels  = local.labels

  depends_on = [google_project_service.api]
}

resource "google_pubsub_subscription" "deliver" {
  count = local.has_workers ? 1 : 0

  project = var.project_id
  name    = local.names_of_workers.topic
  topic   = google_pubsub_topic.deliver[0].id
  labels  = local.labels

  # A worker answers when it is done, and a message without an answer by then is sent to a second one.
  ack_deadline_seconds       = local.timeout_seconds
  message_retention_duration = "600s" # the least; by then ten ticks have asked anew

  push_config {
    push_endpoint = "${google_cloudfunctions2_function.function["deliver"].service_config[0].uri}/deliver"
    oidc_token {
      service_account_email = local.emails["pubsub"]
      audience              = google_cloudfunctions2_function.function["deliver"].service_config[0].uri
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "60s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters[0].id
    max_delivery_attempts = 5
  }

  expiration_policy {
    ttl = "" # never: a month without a backlog is no reason to be gone
  }

  depends_on = [google_cloud_run_v2_service_iam_member.deliver, google_service_account_iam_member.pubsub_token]
}

# What no worker took after 5 attempts: nothing is lost with it, but workers do not work.

resource "google_pubsub_topic" "dead_letters" {
  count = local.has_workers ? 1 : 0

  project = var.project_id
  name    = local.names_of_workers.dead_letters
  labels  = local.labels

  depends_on = [google_project_service.api]
}

resource "google_pubsub_subscription" "dead_letters" {
  count = local.has_workers ? 1 : 0

  project                    = var.project_id
  name                       = local.names_of_workers.dead_letters
  topic                      = google_pubsub_topic.dead_letters[0].id
  labels                     = local.labels
  message_retention_duration = "604800s"

  expiration_policy {
    ttl = ""
  }
}

# Who may do what

resource "google_pubsub_topic_iam_member" "tick" {
  count = local.has_workers ? 1 : 0

  project = var.project_id
  topic   = google_pubsub_topic.deliver[0].name
  role    = "roles/pubsub.publisher"
  member  = local.members["tick"]
}

resource "google_cloud_run_v2_service_iam_member" "deliver" {
  count = local.has_workers ? 1 : 0

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.function["deliver"].name
  role     = "roles/run.invoker"
  member   = local.members["pubsub"]
}

resource "google_service_account_iam_member" "pubsub_token" {
  count = local.has_workers ? 1 : 0

  service_account_id = google_service_account.pubsub[0].name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = local.pubsub_agent
}

resource "google_pubsub_topic_iam_member" "dead_letters" {
  count = local.has_workers ? 1 : 0

  project = var.project_id
  topic   = google_pubsub_topic.dead_letters[0].name
  role    = "roles/pubsub.publisher"
  member  = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "dead_letters" {
  count = local.has_workers ? 1 : 0

  project      = var.project_id
  subscription = google_pubsub_subscription.deliver[0].name
  role         = "roles/pubsub.subscriber" # a message that goes to the dead letters is acknowledged
  member       = local.pubsub_agent
}
