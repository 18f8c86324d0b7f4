locals {
  database_name       = "${var.name}-${random_id.database.hex}"
  database_connection = "${var.project_id}:${var.region}:${google_sql_database_instance.main.name}"

  # Cloud SQL's defaults by memory (https://cloud.google.com/sql/docs/postgres/flags, max_connections). The flag is
  # set to the same value, so that it is a fact and not an assumption.
  shared_core_connections = { db-f1-micro = 25, db-g1-small = 50 }
  connections_by_megabytes = {
    "3840" = 100, "6144" = 200, "7680" = 400, "15360" = 500, "30720" = 600, "61440" = 800, "122880" = 1000
  }
  megabytes = try(tonumber(regex("^db-custom-[0-9]+-([0-9]+)$", var.database_tier)[0]), 0)
  max_connections = lookup(local.shared_core_connections, var.database_tier, max(25, [
    for megabytes, connections in local.connections_by_megabytes : connections if local.megabytes >= tonumber(megabytes)
  ]...))

  # PostgreSQL keeps 3 for superusers, and Cloud SQL's own agents take some. While a new revision takes over, the
  # instances of the old one still hold theirs.
  reserved_connections   = 8
  connections            = sum([for f in values(local.functions) : f.instances * f.pool])
  connections_needed     = 2 * local.connections + local.reserved_connections
  connections_of_others  = sum([for name, f in local.functions : f.instances * f.pool if !contains(var.http_functions, name)])
  api_instances_that_fit = floor(((local.max_connections - local.reserved_connections) / 2 - local.connections_of_others) / (local.http_function.pool * length(var.http_functions)))

  database_flags = {
    "cloudsql.iam_authentication" = "on"
    max_connections               = tostring(local.max_connections)
    log_checkpoints               = "on"
    log_connections               = "on"
    log_disconnections            = "on"
    log_lock_waits                = "on"
    log_min_error_statement       = "error"
    log_min_messages              = "warning"
    log_statement                 = "ddl"
    log_temp_files                = "0"
    log_error_verbosity           = "terse" # without the values of rows, among which are webhook URLs and payloads
    # Slow statements would be logged with their values, and these are webhook URLs and payloads. Query Insights
    # below shows slow statements without.
    log_min_duration_statement = "-1"
  }
}

# A name of Cloud SQL cannot be used again for a week after it was deleted.
resource "random_id" "database" {
  byte_length = 3
}

resource "google_sql_database_instance" "main" {
  project          = var.project_id
  name             = local.database_name
  region           = var.region
  database_version = var.database_version

  deletion_protection = var.deletion_protection

  settings {
    edition           = "ENTERPRISE"
    tier              = var.database_tier
    availability_type = var.database_high_availability ? "REGIONAL" : "ZONAL"
    user_labels       = local.labels

    deletion_protection_enabled = var.deletion_protection
    connector_enforcement       = "REQUIRED"

    disk_type             = "PD_SSD"
    disk_autoresize       = true
    disk_autoresize_limit = var.database_max_disk_gb

    ip_configuration {
      ipv4_enabled    = !var.private_network
      private_network = var.private_network ? google_compute_network.main[0].id : null
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    backup_configuration {
      enabled                        = true
      start_time                     = "02:00"
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7
      backup_retention_settings {
        retained_backups = 14
        retention_unit   = "COUNT"
      }
    }

    final_backup_config {
      enabled        = true
      retention_days = 30
    }

    maintenance_window {
      day          = 7
      hour         = 3
      update_track = "stable"
    }

    insights_config {
      query_insights_enabled  = true
      query_plans_per_minute  = 5
      query_string_length     = 1024
      record_application_tags = false
      record_client_address   = false
    }

    dynamic "database_flags" {
      for_each = local.database_flags
      content {
        name  = database_flags.key
        value = database_flags.value
      }
    }
  }

  lifecycle {
    precondition {
      condition     = local.connections_needed <= local.max_connections
      error_message = "The functions may hold ${local.connections} database connections, twice that while a new revision takes over, and ${local.reserved_connections} are kept for PostgreSQL itself: ${local.connections_needed} in all, but ${var.database_tier} allows ${local.max_connections}. Set api_max_instances to ${max(local.api_instances_that_fit, 0)} or less, set fewer workers, or choose a larger database_tier."
    }
  }

  depends_on = [google_project_service.api, google_service_networking_connection.main]
}

# PostgreSQL does not drop a role that owns or may use something, nor a database in use: on destroy both go with
# their instance.
resource "google_sql_database" "main" {
  project         = var.project_id
  instance        = google_sql_database_instance.main.name
  name            = "insignia"
  deletion_policy = "ABANDON"
}

# Logins without a password. Only migrate may change the schema; it grants the others what they need.
resource "google_sql_user" "function" {
  for_each = local.functions

  project         = var.project_id
  instance        = google_sql_database_instance.main.name
  name            = local.database_users[each.key]
  type            = "CLOUD_IAM_SERVICE_ACCOUNT"
  database_roles  = each.key == "migrate" ? ["cloudsqlsuperuser"] : null
  deletion_policy = "ABANDON"
}
