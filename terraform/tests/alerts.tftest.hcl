# When somebody is woken.

mock_provider "google" {}

override_resource {
  target = random_id.database
  values = { hex = "c0ffee" }
}

variables {
  project_id         = "p1-example"
  region             = "europe-west1"
  notification_email = "ops@example.com"
}

run "alerts" {
  assert {
    condition = {
      for key, metric in google_logging_metric.counter : key => metric.filter
      } == {
      for key, event in {
        tick_summary         = "\"tick.summary\""
        tick_failed          = "\"tick.failed\""
        task_deactivated     = "\"task.deactivated\""
        slots_missed         = "(\"tick.summary\" OR \"worker.summary\") AND jsonPayload.missed>0"
        notification_dropped = "\"notification.dropped\""
      } :
      key => "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"insignia-tick\" AND jsonPayload.event=${event}"
    }
    error_message = "Metrics count the events of docs/events.md, of this Insignia alone."
  }

  assert {
    condition     = google_logging_metric.duration["tick_lag"].value_extractor == "EXTRACT(jsonPayload.lag_seconds)" && google_logging_metric.delivery.label_extractors["status"] == "EXTRACT(jsonPayload.status)"
    error_message = "Lag and status are read from the events."
  }

  assert {
    condition = (
      google_monitoring_alert_policy.no_tick.conditions[0].condition_absent[0].duration == "300s" &&
      strcontains(google_monitoring_alert_policy.no_tick.conditions[0].condition_absent[0].filter, "metric.type = \"logging.googleapis.com/user/insignia/tick_summary\"") &&
      google_monitoring_alert_policy.no_tick.conditions[0].condition_absent[0].aggregations[0].cross_series_reducer == "REDUCE_SUM"
    )
    error_message = "No tick of any revision for 5 minutes is an alert."
  }

  assert {
    condition = (
      google_monitoring_alert_policy.no_tick.combiner == "OR" &&
      google_monitoring_alert_policy.no_tick.conditions[1].condition_threshold[0].comparison == "COMPARISON_LT" &&
      google_monitoring_alert_policy.no_tick.conditions[1].condition_threshold[0].threshold_value == 1 &&
      google_monitoring_alert_policy.no_tick.conditions[1].condition_threshold[0].aggregations[0].alignment_period == "300s"
    )
    error_message = "So are 5 minutes of zeros."
  }

  assert {
    condition = {
      for key, policy in google_monitoring_alert_policy.threshold : key => join(" ", [
        policy.conditions[0].condition_threshold[0].comparison,
        policy.conditions[0].condition_threshold[0].threshold_value,
        policy.conditions[0].condition_threshold[0].aggregations[0].alignment_period,
        policy.conditions[0].condition_threshold[0].duration,
      ])
      } == {
      tick_lag             = "COMPARISON_GT 180 60s 300s"
      task_deactivated     = "COMPARISON_GT 0 300s 0s"
      slots_missed         = "COMPARISON_GT 0 300s 0s"
      notification_dropped = "COMPARISON_GT 0 300s 0s"
      tick_failed          = "COMPARISON_GT 2 600s 0s"
      database_disk        = "COMPARISON_GT 0.9 300s 0s"
      api_errors           = "COMPARISON_GT 5 300s 0s"
    }
    error_message = "Late tasks, deactivations, missed slots, dropped notifications, failing ticks, a full disk and 5xx are alerts."
  }

  assert {
    condition = google_monitoring_alert_policy.threshold["api_errors"].conditions[0].condition_threshold[0].filter == join(" AND ", [
      "resource.type = \"cloud_run_revision\"",
      "resource.labels.service_name = one_of(\"insignia-api\")",
      "metric.type = \"run.googleapis.com/request_count\"",
      "metric.labels.response_code_class = \"5xx\"",
    ])
    error_message = "5xx are counted for the API."
  }

  assert {
    condition = alltrue([
      for policy in concat(values(google_monitoring_alert_policy.threshold), [google_monitoring_alert_policy.no_tick]) :
      policy.notification_channels == tolist([google_monitoring_notification_channel.email[0].id]) && strcontains(policy.documentation[0].content, "docs/operations.md")
    ])
    error_message = "Every alert is sent, and says where to read on."
  }

  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.main.dashboard_json).mosaicLayout.tiles) == 8
    error_message = "The dashboard has 8 charts."
  }

  assert {
    condition = length(distinct([
      for tile in jsondecode(google_monitoring_dashboard.main.dashboard_json).mosaicLayout.tiles : "${tile.xPos} ${tile.yPos}"
    ])) == 8
    error_message = "No chart lies on another."
  }
}

run "without_an_address" {
  command = plan
  variables {
    notification_email = null
  }

  assert {
    condition     = length(google_monitoring_notification_channel.email) == 0 && length(google_monitoring_alert_policy.no_tick.notification_channels) == 0
    error_message = "Without notification_email nothing is sent."
  }
}
