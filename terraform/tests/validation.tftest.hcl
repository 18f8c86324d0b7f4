# Each variable refuses what cannot work, before anything is made. One run for all: each variable has to fail.

mock_provider "google" {}

variables {
  project_id = "p1-example"
  region     = "europe-west1"
}

run "every_variable_refuses" {
  command = plan
  variables {
    project_id              = "123456789012"
    region                  = "europe-west1-b"
    name                    = "a-name-of-19-letters"
    labels                  = { Team = "x" }
    http_functions          = []
    api_invokers            = ["you@example.com"]
    api_max_instances       = 0
    runtime                 = "python39"
    api_token_version       = 0
    read_token_version      = 1.5
    log_level               = "WARNING"
    tick_budget_seconds     = 120
    delivery_concurrency    = 0
    destination_concurrency = 0
    destination_rates       = "discord.com/*=5/2s, other.example.com"
    retention_success_days  = 0
    retention_days          = 36501
    workers                 = -1
    egress_allow            = ["10.1.2.3/8"]
    cors_origins            = ["https://app.example.com/path"]
    database_version        = "MYSQL_8_0"
    database_tier           = "db-perf-optimized-N-2"
    database_max_disk_gb    = 5
    egress_addresses        = ["192.0.2.1"]
    subnet_cidr             = "10.8.0.0/28"
    notification_email      = "ops"
    heartbeat_url           = "monitor.example.com"
    notify_url              = "https://user:password@chat.example.com/"
    notify_signing_secret   = "whsec_short"
    tick_lag_alert_seconds  = 10
  }
  expect_failures = [
    var.project_id,
    var.region,
    var.name,
    var.labels,
    var.http_functions,
    var.api_invokers,
    var.api_max_instances,
    var.runtime,
    var.api_token_version,
    var.read_token_version,
    var.log_level,
    var.tick_budget_seconds,
    var.delivery_concurrency,
    var.destination_concurrency,
    var.destination_rates,
    var.retention_success_days,
    var.retention_days,
    var.workers,
    var.egress_allow,
    var.cors_origins,
    var.database_version,
    var.database_tier,
    var.database_max_disk_gb,
    var.egress_addresses,
    var.subnet_cidr,
    var.notification_email,
    var.heartbeat_url,
    var.notify_url,
    var.notify_signing_secret,
    var.tick_lag_alert_seconds,
  ]
}

run "only_http_functions" {
  command = plan
  variables {
    http_functions = ["api", "tick"]
  }
  expect_failures = [
    var.http_functions,
  ]
}
