# Workers: nothing of them by default, and with `workers` all that wakes them, and no more rights than that takes.

mock_provider "google" {}

override_resource {
  target = random_id.database
  values = { hex = "c0ffee" }
}

override_resource {
  target = google_cloudfunctions2_function.function["deliver"]
  values = { service_config = { uri = "https://deliver.example.com" } }
}

override_resource {
  target = google_storage_bucket.source
  values = { project_number = 123456789012 }
}

variables {
  project_id = "p1-example"
  region     = "europe-west1"
}

run "none_by_default" {
  assert {
    condition = (
      length(google_pubsub_topic.deliver) + length(google_pubsub_topic.dead_letters) + length(google_pubsub_subscription.deliver) + length(google_service_account.pubsub) == 0 &&
      !contains(keys(google_cloudfunctions2_function.function), "deliver") &&
      !contains(keys(google_cloudfunctions2_function.tick.service_config[0].environment_variables), "DELIVER_WORKERS") &&
      !contains(keys(google_project_service.api), "pubsub.googleapis.com") &&
      output.dead_letters_command == null
    )
    error_message = "Without `workers` nothing of Pub/Sub is made."
  }
}

run "four_workers" {
  variables {
    workers             = 4
    tick_budget_seconds = 100
  }

  assert {
    condition = (
      google_cloudfunctions2_function.function["deliver"].service_config[0].max_instance_count == 4 &&
      google_cloudfunctions2_function.function["deliver"].service_config[0].max_instance_request_concurrency == 1 &&
      google_cloudfunctions2_function.function["deliver"].service_config[0].ingress_settings == "ALLOW_INTERNAL_ONLY" &&
      google_cloudfunctions2_function.function["deliver"].build_config[0].entry_point == "deliver"
    )
    error_message = "A message has an instance for itself, there are four at most, and none can be reached from the internet."
  }

  assert {
    condition = google_cloudfunctions2_function.function["deliver"].service_config[0].environment_variables == tomap({
      CLOUD_SQL_INSTANCE      = "p1-example:europe-west1:insignia-c0ffee"
      CLOUD_SQL_IP_TYPE       = "public"
      POSTGRES_USER           = "insignia-deliver@p1-example.iam"
      POSTGRES_DB             = "insignia"
      GOOGLE_CLOUD_PROJECT    = "p1-example"
      LOG_LEVEL               = "INFO"
      THREADS                 = "1"
      DELIVER_SERVICE_ACCOUNT = "insignia-pubsub@p1-example.iam.gserviceaccount.com"
      TICK_BUDGET_SECONDS     = "100"
      DELIVERY_CONCURRENCY    = "500"
      DESTINATION_CONCURRENCY = "64"
      DESTINATION_RATES       = "discord.com/*=5/2s,discordapp.com/*=5/2s"
      MIGRATE_URL             = "https://insignia-migrate-123456789012.europe-west1.run.app"
      INSIGNIA_URL            = "https://insignia-api-123456789012.europe-west1.run.app"
      OWN_HOSTS               = "insignia-api-123456789012.europe-west1.run.app,insignia-deliver-123456789012.europe-west1.run.app,insignia-migrate-123456789012.europe-west1.run.app,insignia-tick-123456789012.europe-west1.run.app"
    })
    error_message = "deliver gets what it needs, and no more."
  }

  assert {
    condition     = length(google_cloudfunctions2_function.function["deliver"].service_config[0].secret_environment_variables) == 0 && alltrue([for m in google_secret_manager_secret_iam_member.token : !strcontains(m.member, "insignia-deliver")])
    error_message = "deliver knows no token of the API."
  }

  assert {
    condition = (
      google_cloudfunctions2_function.tick.service_config[0].environment_variables["DELIVER_WORKERS"] == "4" &&
      google_cloudfunctions2_function.tick.service_config[0].environment_variables["DELIVER_TOPIC"] == "projects/p1-example/topics/insignia-deliver" &&
      google_pubsub_topic.deliver[0].name == "insignia-deliver"
    )
    error_message = "tick knows how many workers it may wake, and by which topic."
  }

  assert {
    condition = (
      google_cloudfunctions2_function.function["migrate"].service_config[0].environment_variables["DATABASE_APP_USERS"] == "insignia-api@p1-example.iam,insignia-deliver@p1-example.iam,insignia-tick@p1-example.iam" &&
      google_cloudfunctions2_function.function["migrate"].service_config[0].environment_variables["MIGRATE_SERVICE_ACCOUNT"] == "insignia-tick@p1-example.iam.gserviceaccount.com,insignia-deliver@p1-example.iam.gserviceaccount.com" &&
      toset([for m in google_cloud_run_v2_service_iam_member.migrate : m.member]) == toset(["serviceAccount:insignia-tick@p1-example.iam.gserviceaccount.com", "serviceAccount:insignia-deliver@p1-example.iam.gserviceaccount.com"])
    )
    error_message = "A deliver whose user has no rights yet asks migrate for them."
  }

  assert {
    condition = (
      google_pubsub_subscription.deliver[0].push_config[0].push_endpoint == "https://deliver.example.com/deliver" &&
      google_pubsub_subscription.deliver[0].push_config[0].oidc_token[0].audience == "https://deliver.example.com" &&
      google_pubsub_subscription.deliver[0].push_config[0].oidc_token[0].service_account_email == "insignia-pubsub@p1-example.iam.gserviceaccount.com"
    )
    error_message = "The subscription proves to deliver who it is."
  }

  assert {
    condition     = google_pubsub_subscription.deliver[0].ack_deadline_seconds >= google_cloudfunctions2_function.function["deliver"].service_config[0].timeout_seconds && google_pubsub_subscription.deliver[0].ack_deadline_seconds >= 100
    error_message = "A message is not sent again while its worker may still be at work."
  }

  assert {
    condition = (
      google_pubsub_subscription.deliver[0].dead_letter_policy[0].max_delivery_attempts == 5 &&
      google_pubsub_subscription.deliver[0].dead_letter_policy[0].dead_letter_topic == google_pubsub_topic.dead_letters[0].id &&
      google_pubsub_subscription.deliver[0].retry_policy[0].minimum_backoff == "10s" &&
      google_pubsub_subscription.deliver[0].expiration_policy[0].ttl == "" &&
      google_pubsub_subscription.dead_letters[0].topic == google_pubsub_topic.dead_letters[0].id
    )
    error_message = "What nobody takes goes to the dead letters, where it is kept."
  }

  assert {
    condition = toset([
      "${google_pubsub_topic_iam_member.tick[0].member} ${google_pubsub_topic_iam_member.tick[0].role} ${google_pubsub_topic_iam_member.tick[0].topic}",
      "${google_cloud_run_v2_service_iam_member.deliver[0].member} ${google_cloud_run_v2_service_iam_member.deliver[0].role} ${google_cloud_run_v2_service_iam_member.deliver[0].name}",
      "${google_pubsub_topic_iam_member.dead_letters[0].member} ${google_pubsub_topic_iam_member.dead_letters[0].role} ${google_pubsub_topic_iam_member.dead_letters[0].topic}",
      "${google_pubsub_subscription_iam_member.dead_letters[0].member} ${google_pubsub_subscription_iam_member.dead_letters[0].role} ${google_pubsub_subscription_iam_member.dead_letters[0].subscription}",
      "${google_service_account_iam_member.pubsub_token[0].member} ${google_service_account_iam_member.pubsub_token[0].role} ${google_service_account.pubsub[0].account_id}",
      ]) == toset([
      "serviceAccount:insignia-tick@p1-example.iam.gserviceaccount.com roles/pubsub.publisher insignia-deliver",
      "serviceAccount:insignia-pubsub@p1-example.iam.gserviceaccount.com roles/run.invoker insignia-deliver",
      "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com roles/pubsub.publisher insignia-deliver-dead-letters",
      "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com roles/pubsub.subscriber insignia-deliver",
      "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com roles/iam.serviceAccountOpenIdTokenCreator insignia-pubsub",
    ])
    error_message = "tick may publish, Pub/Sub may call deliver and bury what nobody takes, and nobody may do more."
  }

  assert {
    condition = alltrue([
      for filter in [google_logging_metric.delivery.filter, google_logging_metric.counter["task_deactivated"].filter, google_logging_metric.counter["notification_dropped"].filter] :
      startswith(filter, "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(\"insignia-tick\" OR \"insignia-deliver\") AND jsonPayload.event=")
    ]) && strcontains(google_logging_metric.counter["tick_summary"].filter, "service_name=\"insignia-tick\"")
    error_message = "Deliveries of workers are counted, and workers are not counted as ticks."
  }

  assert {
    condition     = output.dead_letters_command == "gcloud pubsub subscriptions pull insignia-deliver-dead-letters --project=p1-example --limit=10"
    error_message = "The output shows what nobody took."
  }
}

run "as_many_workers_as_fit" {
  command = plan
  variables {
    workers = 4
  }
  assert {
    condition     = google_cloudfunctions2_function.function["deliver"].service_config[0].max_instance_count == 4
    error_message = "4 workers fit beside the API into 50 connections."
  }
}

run "one_more" {
  command = plan
  variables {
    workers = 5
  }
  expect_failures = [google_sql_database_instance.main]
}
