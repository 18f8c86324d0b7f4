# With two variables: what is made, and who may do what. Applied against a mocked provider.
#
# random is not mocked, because Terraform 1.11 mocks no ephemeral resources; its one managed resource is overridden.

mock_provider "google" {}

override_resource {
  target = random_id.database
  values = { hex = "c0ffee" }
}

override_resource {
  target = google_cloudfunctions2_function.function["api"]
  values = { service_config = { uri = "https://api.example.com" } }
}

override_resource {
  target = google_cloudfunctions2_function.function["migrate"]
  values = { service_config = { uri = "https://migrate.example.com" } }
}

override_resource {
  target = google_cloudfunctions2_function.tick
  values = { service_config = { uri = "https://tick.example.com" } }
}

override_resource {
  target = google_storage_bucket.source
  values = { project_number = 123456789012 }
}

override_resource {
  target = google_secret_manager_secret_version.token
  values = { version = "7", secret_data = "" }
}

# Provider 7.41 makes up what is not set here, so that a mock would too.
override_resource {
  target = google_sql_database_instance.main
  values = { root_password = "" }
}

override_resource {
  target = google_sql_user.function
  values = { password = "" }
}

variables {
  project_id = "p1-example"
  region     = "europe-west1"
}

run "defaults" {
  # Functions

  assert {
    condition     = sort(concat(keys(google_cloudfunctions2_function.function), ["tick"])) == tolist(["api", "migrate", "tick"])
    error_message = "api, tick and migrate are deployed."
  }

  assert {
    condition = alltrue([
      for f in concat(values(google_cloudfunctions2_function.function), [google_cloudfunctions2_function.tick]) :
      f.service_config[0].timeout_seconds == 120 && f.service_config[0].available_cpu == "1" && length(f.service_config[0].direct_vpc_network_interface) == 0
    ])
    error_message = "Every function has 120 s and a CPU, and none is in a VPC."
  }

  assert {
    condition = (
      google_cloudfunctions2_function.tick.build_config[0].runtime == google_cloudfunctions2_function.function["api"].build_config[0].runtime &&
      google_cloudfunctions2_function.tick.build_config[0].service_account == google_cloudfunctions2_function.function["api"].build_config[0].service_account &&
      google_cloudfunctions2_function.tick.build_config[0].source[0].storage_source[0].object == google_cloudfunctions2_function.function["api"].build_config[0].source[0].storage_source[0].object
    )
    error_message = "tick is built of the same source and by the same account as the others."
  }

  assert {
    condition     = length(distinct([for f in concat(values(google_cloudfunctions2_function.function), [google_cloudfunctions2_function.tick]) : f.service_config[0].service_account_email])) == 3
    error_message = "Each function has an account of its own."
  }

  assert {
    condition     = google_cloudfunctions2_function.tick.service_config[0].max_instance_count == 1 && google_cloudfunctions2_function.tick.service_config[0].max_instance_request_concurrency == 1
    error_message = "Two ticks must not run at once."
  }

  assert {
    condition     = google_cloudfunctions2_function.tick.service_config[0].ingress_settings == "ALLOW_INTERNAL_ONLY"
    error_message = "tick cannot be reached from the internet."
  }

  assert {
    condition     = can(regex("^insignia-[0-9a-f]{64}\\.zip$", google_storage_bucket_object.source.name))
    error_message = "The zip is named by its hash, so that a change of the source deploys the functions anew."
  }

  # Environment

  assert {
    condition = alltrue([
      for f in concat(values(google_cloudfunctions2_function.function), [google_cloudfunctions2_function.tick]) :
      f.service_config[0].environment_variables["THREADS"] == tostring(f.service_config[0].max_instance_request_concurrency)
    ])
    error_message = "The server has a thread for each request that Cloud Run sends at once."
  }

  assert {
    condition = google_cloudfunctions2_function.function["api"].service_config[0].environment_variables == tomap({
      CLOUD_SQL_INSTANCE      = "p1-example:europe-west1:insignia-c0ffee"
      CLOUD_SQL_IP_TYPE       = "public"
      POSTGRES_USER           = "insignia-api@p1-example.iam"
      POSTGRES_DB             = "insignia"
      GOOGLE_CLOUD_PROJECT    = "p1-example"
      LOG_LEVEL               = "INFO"
      THREADS                 = "20"
      DESTINATION_CONCURRENCY = "64"
      DESTINATION_RATES       = "discord.com/*=5/2s,discordapp.com/*=5/2s"
      SCHEDULER_JOB           = "projects/p1-example/locations/europe-west1/jobs/insignia-tick"
      OWN_HOSTS               = "insignia-api-123456789012.europe-west1.run.app,insignia-migrate-123456789012.europe-west1.run.app,insignia-tick-123456789012.europe-west1.run.app"
    })
    error_message = "api gets what it needs, and no more."
  }

  assert {
    condition = google_cloudfunctions2_function.tick.service_config[0].environment_variables == tomap({
      CLOUD_SQL_INSTANCE      = "p1-example:europe-west1:insignia-c0ffee"
      CLOUD_SQL_IP_TYPE       = "public"
      POSTGRES_USER           = "insignia-tick@p1-example.iam"
      POSTGRES_DB             = "insignia"
      GOOGLE_CLOUD_PROJECT    = "p1-example"
      LOG_LEVEL               = "INFO"
      THREADS                 = "1"
      TICK_SERVICE_ACCOUNT    = "insignia-scheduler@p1-example.iam.gserviceaccount.com"
      TICK_BUDGET_SECONDS     = "50"
      DELIVERY_CONCURRENCY    = "500"
      DESTINATION_CONCURRENCY = "64"
      DESTINATION_RATES       = "discord.com/*=5/2s,discordapp.com/*=5/2s"
      RETENTION_SUCCESS_DAYS  = "30"
      RETENTION_DAYS          = "90"
      MIGRATE_URL             = "https://migrate.example.com"
      INSIGNIA_URL            = "https://insignia-api-123456789012.europe-west1.run.app"
      OWN_HOSTS = join(",", [
        "insignia-api-123456789012.europe-west1.run.app", "insignia-migrate-123456789012.europe-west1.run.app",
        "insignia-tick-123456789012.europe-west1.run.app", "api.example.com", "migrate.example.com",
      ])
    })
    error_message = "tick gets what it needs, and no more."
  }

  assert {
    condition = google_cloudfunctions2_function.function["migrate"].service_config[0].environment_variables == tomap({
      CLOUD_SQL_INSTANCE      = "p1-example:europe-west1:insignia-c0ffee"
      CLOUD_SQL_IP_TYPE       = "public"
      POSTGRES_USER           = "insignia-migrate@p1-example.iam"
      POSTGRES_DB             = "insignia"
      GOOGLE_CLOUD_PROJECT    = "p1-example"
      LOG_LEVEL               = "INFO"
      THREADS                 = "1"
      DATABASE_APP_USERS      = "insignia-api@p1-example.iam,insignia-tick@p1-example.iam"
      MIGRATE_SERVICE_ACCOUNT = "insignia-tick@p1-example.iam.gserviceaccount.com"
    })
    error_message = "migrate gets what it needs, and no more."
  }

  # Least privilege

  assert {
    condition = toset([for m in google_project_iam_member.database : "${m.member} ${m.role}"]) == toset([
      for pair in setproduct(["api", "tick", "migrate"], ["roles/cloudsql.client", "roles/cloudsql.instanceUser"]) :
      "serviceAccount:insignia-${pair[0]}@p1-example.iam.gserviceaccount.com ${pair[1]}"
    ])
    error_message = "Each function may log in to the database, and nobody else."
  }

  assert {
    condition     = alltrue([for m in google_project_iam_member.database : strcontains(m.condition[0].expression, "resource.name == 'projects/p1-example/instances/insignia-c0ffee'")])
    error_message = "The right to log in is for this database alone."
  }

  assert {
    condition = (
      length(google_project_iam_member.scheduler_state) == 1 &&
      google_project_iam_member.scheduler_state["api"].role == "roles/cloudscheduler.viewer" &&
      google_project_iam_member.scheduler_state["api"].member == "serviceAccount:insignia-api@p1-example.iam.gserviceaccount.com"
    )
    error_message = "Only api, whose /health tells of the scheduler, may look at it."
  }

  assert {
    condition = toset([
      for m in [
        google_project_iam_member.build_logs, google_project_iam_member.build_source,
        google_storage_bucket_iam_member.build_source, google_artifact_registry_repository_iam_member.build_images,
      ] : "${m.member} ${m.role}"
      ]) == toset([
      "serviceAccount:insignia-build@p1-example.iam.gserviceaccount.com roles/logging.logWriter",
      "serviceAccount:insignia-build@p1-example.iam.gserviceaccount.com roles/storage.objectViewer",
      "serviceAccount:insignia-build@p1-example.iam.gserviceaccount.com roles/artifactregistry.writer",
    ])
    error_message = "The build reads the source, writes its image and its log."
  }

  assert {
    condition     = google_project_iam_member.build_source.condition[0].expression == "resource.name.startsWith('projects/_/buckets/gcf-v2-sources-')"
    error_message = "The build reads no other bucket of the project."
  }

  # Invokers

  assert {
    condition = (
      google_cloud_run_v2_service_iam_member.tick.name == "insignia-tick" &&
      google_cloud_run_v2_service_iam_member.tick.role == "roles/run.invoker" &&
      google_cloud_run_v2_service_iam_member.tick.member == "serviceAccount:insignia-scheduler@p1-example.iam.gserviceaccount.com"
    )
    error_message = "Only the scheduler may call tick."
  }

  assert {
    condition = (
      keys(google_cloud_run_v2_service_iam_member.migrate) == ["tick"] &&
      google_cloud_run_v2_service_iam_member.migrate["tick"].name == "insignia-migrate" &&
      google_cloud_run_v2_service_iam_member.migrate["tick"].role == "roles/run.invoker" &&
      google_cloud_run_v2_service_iam_member.migrate["tick"].member == "serviceAccount:insignia-tick@p1-example.iam.gserviceaccount.com"
    )
    error_message = "Only tick may call migrate."
  }

  assert {
    condition     = [for m in google_cloud_run_v2_service_iam_member.http : "${m.name} ${m.role} ${m.member}"] == ["insignia-api roles/run.invoker allUsers"]
    error_message = "Of all functions only api is public."
  }

  # Secrets

  assert {
    condition = toset([for m in google_secret_manager_secret_iam_member.token : "${m.secret_id} ${m.role} ${m.member}"]) == toset([
      "insignia-api-token roles/secretmanager.secretAccessor serviceAccount:insignia-api@p1-example.iam.gserviceaccount.com",
      "insignia-api-token roles/secretmanager.secretAccessor serviceAccount:insignia-tick@p1-example.iam.gserviceaccount.com",
    ])
    error_message = "api and tick may read the token, and nobody else."
  }

  assert {
    condition = {
      for name, f in merge(google_cloudfunctions2_function.function, { tick = google_cloudfunctions2_function.tick }) :
      name => [for s in f.service_config[0].secret_environment_variables : "${s.key}=${s.secret}:${s.version}"]
      } == {
      api     = ["API_TOKEN=insignia-api-token:7"]
      tick    = ["API_TOKEN=insignia-api-token:7"]
      migrate = []
    }
    error_message = "api and tick get this version of the token, migrate gets none."
  }

  assert {
    condition     = alltrue([for v in google_secret_manager_secret_version.token : try(length(v.secret_data), 0) == 0 && tostring(v.secret_data_wo_version) == "1"])
    error_message = "The token is written once and is not in the state."
  }

  # Database

  assert {
    condition     = google_sql_database_instance.main.deletion_protection && google_sql_database_instance.main.settings[0].deletion_protection_enabled
    error_message = "Neither Terraform nor anybody else may delete the database."
  }

  assert {
    condition = (
      google_sql_database_instance.main.settings[0].edition == "ENTERPRISE" &&
      google_sql_database_instance.main.settings[0].connector_enforcement == "REQUIRED" &&
      google_sql_database_instance.main.settings[0].ip_configuration[0].ssl_mode == "ENCRYPTED_ONLY" &&
      length(google_sql_database_instance.main.settings[0].ip_configuration[0].authorized_networks) == 0
    )
    error_message = "The database is reached through the connector only, encrypted."
  }

  assert {
    condition     = google_sql_database_instance.main.settings[0].backup_configuration[0].enabled && google_sql_database_instance.main.settings[0].backup_configuration[0].point_in_time_recovery_enabled
    error_message = "The database can be brought back to any second of the last week."
  }

  assert {
    condition     = try(length(google_sql_database_instance.main.root_password), 0) == 0 && alltrue([for u in google_sql_user.function : try(length(u.password), 0) == 0 && u.type == "CLOUD_IAM_SERVICE_ACCOUNT"])
    error_message = "There is no password."
  }

  assert {
    condition = { for f, u in google_sql_user.function : u.name => join(",", coalesce(u.database_roles, [])) } == {
      "insignia-api@p1-example.iam"     = ""
      "insignia-tick@p1-example.iam"    = ""
      "insignia-migrate@p1-example.iam" = "cloudsqlsuperuser"
    }
    error_message = "Only migrate may change the schema."
  }

  assert {
    condition     = contains([for f in google_sql_database_instance.main.settings[0].database_flags : "${f.name}=${f.value}"], "max_connections=50")
    error_message = "max_connections is set to what the functions are counted against."
  }

  assert {
    condition     = contains([for f in google_sql_database_instance.main.settings[0].database_flags : "${f.name}=${f.value}"], "log_error_verbosity=terse")
    error_message = "The database logs no values of rows."
  }

  # Storage

  assert {
    condition     = google_storage_bucket.source.uniform_bucket_level_access && google_storage_bucket.source.public_access_prevention == "enforced"
    error_message = "The bucket of the source cannot be made public."
  }

  # Scheduler

  assert {
    condition = (
      google_cloud_scheduler_job.tick.schedule == "* * * * *" &&
      google_cloud_scheduler_job.tick.time_zone == "Etc/UTC" &&
      google_cloud_scheduler_job.tick.attempt_deadline == "120s" &&
      google_cloud_scheduler_job.tick.retry_config[0].retry_count == 0 &&
      !google_cloud_scheduler_job.tick.paused
    )
    error_message = "tick is called every minute, has 120 s, and is not called again before the next."
  }

  assert {
    condition = (
      google_cloud_scheduler_job.tick.http_target[0].http_method == "POST" &&
      google_cloud_scheduler_job.tick.http_target[0].uri == "https://tick.example.com/tick" &&
      google_cloud_scheduler_job.tick.http_target[0].oidc_token[0].audience == "https://tick.example.com" &&
      google_cloud_scheduler_job.tick.http_target[0].oidc_token[0].service_account_email == "insignia-scheduler@p1-example.iam.gserviceaccount.com"
    )
    error_message = "The scheduler proves to tick who it is."
  }

  # Outputs

  assert {
    condition = (
      output.api_url == "https://api.example.com" &&
      output.tick_function == "insignia-tick" &&
      output.egress_addresses_command == null &&
      output.read_token_command == "gcloud secrets versions access latest --secret=insignia-api-token --project=p1-example" &&
      output.curl_command == "curl -H \"Authorization: Bearer $(${output.read_token_command})\" https://api.example.com/tasks/"
    )
    error_message = "The outputs are commands that can be pasted."
  }
}
