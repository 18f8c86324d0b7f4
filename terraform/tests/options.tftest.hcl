# What each option changes.

mock_provider "google" {}

override_resource {
  target = random_id.database
  values = { hex = "c0ffee" }
}

variables {
  project_id = "p1-example"
  region     = "europe-west1"
}

run "paused_and_in_parts" {
  variables {
    paused            = true
    http_functions    = ["tasks", "task_logs", "health"]
    api_max_instances = 1
    read_token        = true
  }

  assert {
    condition     = google_cloud_scheduler_job.tick.paused
    error_message = "paused stops the scheduler."
  }

  assert {
    condition     = !google_monitoring_alert_policy.no_tick.enabled
    error_message = "Nobody is alarmed by the missing ticks that were asked for."
  }

  assert {
    condition = { for f, resource in google_cloudfunctions2_function.function : f => "${resource.name} ${resource.build_config[0].entry_point}" } == {
      tasks     = "insignia-tasks tasks"
      task_logs = "insignia-task-logs task_logs"
      health    = "insignia-health health"
      migrate   = "insignia-migrate migrate"
    }
    error_message = "Each part is a function of its own, under the name of its entry point in main.py."
  }

  assert {
    condition = toset([for m in google_secret_manager_secret_iam_member.token : "${m.secret_id} ${split("@", m.member)[0]}"]) == toset([
      "insignia-api-token serviceAccount:insignia-tasks",
      "insignia-api-token serviceAccount:insignia-task-logs",
      "insignia-api-token serviceAccount:insignia-health",
      "insignia-api-token serviceAccount:insignia-tick",
      "insignia-api-read-token serviceAccount:insignia-tasks",
      "insignia-api-read-token serviceAccount:insignia-task-logs",
      "insignia-api-read-token serviceAccount:insignia-health",
    ])
    error_message = "The token that reads only does not reach tick, and none reaches migrate."
  }

  assert {
    condition     = keys(google_project_iam_member.scheduler_state)[0] == "health" && length(google_project_iam_member.scheduler_state) == 1
    error_message = "Only health may look at the scheduler."
  }

  assert {
    condition     = google_cloudfunctions2_function.function["migrate"].service_config[0].environment_variables["DATABASE_APP_USERS"] == "insignia-health@p1-example.iam,insignia-task-logs@p1-example.iam,insignia-tasks@p1-example.iam,insignia-tick@p1-example.iam"
    error_message = "migrate grants rights to every other function's user."
  }
}

run "private_network" {
  variables {
    private_network     = true
    deletion_protection = false
  }

  assert {
    condition     = !google_sql_database_instance.main.settings[0].ip_configuration[0].ipv4_enabled && google_sql_database_instance.main.settings[0].ip_configuration[0].private_network == google_compute_network.main[0].id
    error_message = "The database has a private address only."
  }

  assert {
    condition = alltrue([
      for f in concat(values(google_cloudfunctions2_function.function), [google_cloudfunctions2_function.tick]) :
      f.service_config[0].environment_variables["CLOUD_SQL_IP_TYPE"] == "private" &&
      f.service_config[0].direct_vpc_egress == "VPC_EGRESS_PRIVATE_RANGES_ONLY" &&
      one(f.service_config[0].direct_vpc_network_interface).subnetwork == google_compute_subnetwork.main[0].id
    ])
    error_message = "Every function reaches the database through the VPC, and the internet as before."
  }

  assert {
    condition     = length(google_compute_router_nat.main) == 0
    error_message = "Without egress_addresses there is no NAT to pay for."
  }

  assert {
    condition     = !google_sql_database_instance.main.deletion_protection && !google_sql_database_instance.main.settings[0].deletion_protection_enabled
    error_message = "Both protections are lifted at once."
  }
}

run "egress_addresses" {
  variables {
    egress_addresses     = ["first", "second"]
    api_invokers         = ["group:owners@example.com"]
    tick_budget_seconds  = 100
    delivery_concurrency = 300
    egress_allow         = ["10.0.0.0/8", "fd12::/64"]
    cors_origins         = ["https://app.example.com", "http://localhost:3000"]
  }

  assert {
    condition = google_compute_router_nat.main[0].nat_ips == toset([
      "https://www.googleapis.com/compute/v1/projects/p1-example/regions/europe-west1/addresses/first",
      "https://www.googleapis.com/compute/v1/projects/p1-example/regions/europe-west1/addresses/second",
    ]) && google_compute_router_nat.main[0].nat_ip_allocate_option == "MANUAL_ONLY"
    error_message = "Calls leave from the reserved addresses, and from no others."
  }

  assert {
    condition = (
      google_cloudfunctions2_function.tick.service_config[0].direct_vpc_egress == "VPC_EGRESS_ALL_TRAFFIC" &&
      google_cloudfunctions2_function.function["api"].service_config[0].direct_vpc_egress == "VPC_EGRESS_ALL_TRAFFIC" &&
      google_cloudfunctions2_function.function["migrate"].service_config[0].direct_vpc_egress == "VPC_EGRESS_PRIVATE_RANGES_ONLY"
    )
    error_message = "All that calls webhooks goes through the NAT."
  }

  assert {
    condition     = google_sql_database_instance.main.settings[0].ip_configuration[0].ipv4_enabled && length(google_service_networking_connection.main) == 0
    error_message = "The database stays where it was."
  }

  assert {
    condition     = output.egress_addresses_command == "gcloud compute addresses list --project=p1-example --filter='region:europe-west1 AND name:(first second)' --format='value(address)'"
    error_message = "The output prints all addresses."
  }

  assert {
    condition     = [for m in google_cloud_run_v2_service_iam_member.http : m.member] == ["group:owners@example.com"]
    error_message = "Nobody else may reach the API."
  }

  assert {
    condition = (
      google_cloudfunctions2_function.tick.service_config[0].environment_variables["TICK_BUDGET_SECONDS"] == "100" &&
      google_cloudfunctions2_function.tick.service_config[0].environment_variables["DELIVERY_CONCURRENCY"] == "300" &&
      google_cloudfunctions2_function.tick.service_config[0].environment_variables["EGRESS_ALLOW"] == "10.0.0.0/8,fd12::/64" &&
      !contains(keys(google_cloudfunctions2_function.function["migrate"].service_config[0].environment_variables), "EGRESS_ALLOW") &&
      google_cloudfunctions2_function.function["api"].service_config[0].environment_variables["CORS_ORIGINS"] == "https://app.example.com,http://localhost:3000" &&
      !contains(keys(google_cloudfunctions2_function.tick.service_config[0].environment_variables), "CORS_ORIGINS")
    )
    error_message = "Each setting reaches the functions that read it, and no other."
  }
}

run "monitored_and_notified" {
  variables {
    workers               = 1
    heartbeat_url         = "https://monitor.example.com/ping/1"
    notify_url            = "https://chat.example.com/alerts"
    notify_signing_secret = "whsec_bm90LWEtc2VjcmV0LWJ1dC1hbi1leGFtcGxl"
  }

  assert {
    condition = toset([for m in google_secret_manager_secret_iam_member.token : "${m.secret_id} ${split("@", m.member)[0]}"]) == toset([
      "insignia-api-token serviceAccount:insignia-api",
      "insignia-api-token serviceAccount:insignia-tick",
      "insignia-heartbeat-url serviceAccount:insignia-tick",
      "insignia-notify-url serviceAccount:insignia-tick",
      "insignia-notify-url serviceAccount:insignia-deliver",
      "insignia-notify-signing-secret serviceAccount:insignia-tick",
      "insignia-notify-signing-secret serviceAccount:insignia-deliver",
    ])
    error_message = "tick and deliver may read what they send to, only tick calls the monitor, and api reads none of it."
  }

  assert {
    condition = {
      for name, f in merge(google_cloudfunctions2_function.function, { tick = google_cloudfunctions2_function.tick }) :
      name => [for s in f.service_config[0].secret_environment_variables : "${s.key}=${s.secret}"]
      } == {
      api     = ["API_TOKEN=insignia-api-token"]
      deliver = ["NOTIFY_SIGNING_SECRET=insignia-notify-signing-secret", "NOTIFY_URL=insignia-notify-url"]
      migrate = []
      tick    = ["API_TOKEN=insignia-api-token", "HEARTBEAT_URL=insignia-heartbeat-url", "NOTIFY_SIGNING_SECRET=insignia-notify-signing-secret", "NOTIFY_URL=insignia-notify-url"]
    }
    error_message = "Each function gets the settings that it may read."
  }

  assert {
    condition     = alltrue([for v in google_secret_manager_secret_version.token : try(length(v.secret_data), 0) == 0])
    error_message = "What is given is not in the state."
  }

  assert {
    condition     = tostring(google_secret_manager_secret_version.token["NOTIFY_URL"].secret_data_wo_version) == tostring(parseint(substr(sha256("https://chat.example.com/alerts"), 0, 7), 16))
    error_message = "Another URL is another version."
  }
}

run "second_insignia_of_a_project" {
  variables {
    name = "other"
  }

  assert {
    condition = alltrue([
      for name in concat(
        [for f in google_cloudfunctions2_function.function : f.name],
        [for a in google_service_account.function : a.account_id],
        [for s in google_secret_manager_secret.token : s.secret_id],
        [for m in google_logging_metric.counter : m.name],
        [google_cloudfunctions2_function.tick.name, google_cloud_scheduler_job.tick.name, google_sql_database_instance.main.name, google_artifact_registry_repository.images.repository_id],
      ) : startswith(name, "other")
    ])
    error_message = "Nothing has the name of the first one."
  }
}
