# Two blocks, alike but for their environment: tick is told where the others are.

locals {
  scheduler_job = "projects/${var.project_id}/locations/${var.region}/jobs/${local.names["tick"]}"

  # A service has two names. This one is known before the functions are made, so that each can be told of all.
  hosts     = { for f in keys(local.functions) : f => "${local.names[f]}-${google_storage_bucket.source.project_number}.${var.region}.run.app" }
  own_hosts = values(local.hosts)

  environment = {
    for f in keys(local.functions) : f => merge(
      {
        CLOUD_SQL_INSTANCE   = local.database_connection
        CLOUD_SQL_IP_TYPE    = var.private_network ? "private" : "public"
        POSTGRES_USER        = local.database_users[f]
        POSTGRES_DB          = google_sql_database.main.name
        GOOGLE_CLOUD_PROJECT = var.project_id
        LOG_LEVEL            = var.log_level
        THREADS              = tostring(local.functions[f].concurrency) # of the server: docs/scale.md, "The server"
      },
      contains(local.reads_scheduler, f) ? { SCHEDULER_JOB = local.scheduler_job } : {},
      contains(local.notifies, f) && contains(var.http_functions, "api") ? { INSIGNIA_URL = "https://${local.hosts["api"]}" } : {},
      contains(local.calls_webhooks, f) ? { OWN_HOSTS = join(",", local.own_hosts) } : {},
      contains(local.calls_webhooks, f) && length(var.egress_allow) > 0 ? { EGRESS_ALLOW = join(",", var.egress_allow) } : {},
      contains(local.calls_webhooks, f) ? { DESTINATION_CONCURRENCY = tostring(var.destination_concurrency) } : {},
      contains(local.calls_webhooks, f) ? { DESTINATION_RATES = var.destination_rates } : {},
      contains(var.http_functions, f) && length(var.cors_origins) > 0 ? { CORS_ORIGINS = join(",", var.cors_origins) } : {},
      f != "migrate" ? {} : { DATABASE_APP_USERS = join(",", [for other, user in local.database_users : user if other != "migrate"]) },
      f != "deliver" ? {} : {
        DELIVER_SERVICE_ACCOUNT = local.emails["pubsub"]
        TICK_BUDGET_SECONDS     = tostring(var.tick_budget_seconds)
        DELIVERY_CONCURRENCY    = tostring(var.delivery_concurrency)
        MIGRATE_URL             = "https://${local.hosts["migrate"]}" # its name that is known before it is made
      },
      f != "migrate" ? {} : { MIGRATE_SERVICE_ACCOUNT = join(",", [for f in local.calls_migrate : local.emails[f]]) },
    )
  }
}

resource "google_cloudfunctions2_function" "function" {
  for_each = { for f, function in local.functions : f => function if f != "tick" }

  project     = var.project_id
  location    = var.region
  name        = local.names[each.key]
  description = "Insignia: ${each.key}"
  labels      = local.labels

  build_config {
    runtime           = var.runtime
    entry_point       = each.key
    service_account   = "projects/${var.project_id}/serviceAccounts/${local.emails["build"]}"
    docker_repository = google_artifact_registry_repository.images.id
    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.source.name
      }
    }
  }

  service_config {
    service_account_email            = local.emails[each.key]
    available_memory                 = each.value.memory
    available_cpu                    = "1"
    timeout_seconds                  = local.timeout_seconds
    min_instance_count               = 0
    max_instance_count               = each.value.instances
    max_instance_request_concurrency = each.value.concurrency
    ingress_settings                 = each.value.ingress
    all_traffic_on_latest_revision   = true
    environment_variables            = local.environment[each.key]

    dynamic "secret_environment_variables" {
      for_each = toset(each.value.secrets)
      content {
        project_id = var.project_id
        key        = secret_environment_variables.key
        secret     = google_secret_manager_secret.token[secret_environment_variables.key].secret_id
        version    = google_secret_manager_secret_version.token[secret_environment_variables.key].version
      }
    }

    direct_vpc_egress = lookup(local.functions_in_network, each.key, null)
    dynamic "direct_vpc_network_interface" {
      for_each = local.has_network ? [1] : []
      content {
        network    = google_compute_network.main[0].id
        subnetwork = google_compute_subnetwork.main[0].id
      }
    }
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.build_images,
    google_project_iam_member.build_logs,
    google_project_iam_member.build_source,
    google_project_iam_member.database,
    google_secret_manager_secret_iam_member.token,
    google_sql_user.function,
    google_storage_bucket_iam_member.build_source,
  ]
}

resource "google_cloudfunctions2_function" "tick" {
  project     = var.project_id
  location    = var.region
  name        = local.names["tick"]
  description = "Insignia: tick"
  labels      = local.labels

  build_config {
    runtime           = var.runtime
    entry_point       = "tick"
    service_account   = "projects/${var.project_id}/serviceAccounts/${local.emails["build"]}"
    docker_repository = google_artifact_registry_repository.images.id
    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.source.name
      }
    }
  }

  service_config {
    service_account_email            = local.emails["tick"]
    available_memory                 = local.functions.tick.memory
    available_cpu                    = "1"
    timeout_seconds                  = local.timeout_seconds
    min_instance_count               = 0
    max_instance_count               = local.functions.tick.instances
    max_instance_request_concurrency = local.functions.tick.concurrency
    ingress_settings                 = local.functions.tick.ingress
    all_traffic_on_latest_revision   = true
    environment_variables = merge(local.environment["tick"], local.has_workers ? { DELIVER_WORKERS = tostring(var.workers), DELIVER_TOPIC = local.deliver_topic } : {}, {
      TICK_SERVICE_ACCOUNT   = local.emails["scheduler"]
      TICK_BUDGET_SECONDS    = tostring(var.tick_budget_seconds)
      DELIVERY_CONCURRENCY   = tostring(var.delivery_concurrency)
      RETENTION_SUCCESS_DAYS = tostring(var.retention_success_days)
      RETENTION_DAYS         = tostring(var.retention_days)
      MIGRATE_URL            = google_cloudfunctions2_function.function["migrate"].service_config[0].uri
      OWN_HOSTS              = join(",", concat(local.own_hosts, [for f in google_cloudfunctions2_function.function : trimprefix(f.service_config[0].uri, "https://")]))
    })

    dynamic "secret_environment_variables" {
      for_each = toset(local.functions.tick.secrets)
      content {
        project_id = var.project_id
        key        = secret_environment_variables.key
        secret     = google_secret_manager_secret.token[secret_environment_variables.key].secret_id
        version    = google_secret_manager_secret_version.token[secret_environment_variables.key].version
      }
    }

    direct_vpc_egress = lookup(local.functions_in_network, "tick", null)
    dynamic "direct_vpc_network_interface" {
      for_each = local.has_network ? [1] : []
      content {
        network    = google_compute_network.main[0].id
        subnetwork = google_compute_subnetwork.main[0].id
      }
    }
  }
}
