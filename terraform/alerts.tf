# Conditions add up all revisions: a new one starts new time series, and the old ones fall silent.

locals {
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]

  metric_filters = { for key, type in local.metric_types : key => "resource.type = \"cloud_run_revision\" AND metric.type = \"${type}\"" }

  http_services = join(", ", [for f in var.http_functions : "\"${local.names[f]}\""])

  thresholds = {
    tick_lag = {
      title     = "Tasks are called late"
      severity  = "WARNING"
      condition = "The oldest due task is more than ${var.tick_lag_alert_seconds} s late, for 5 minutes"
      filter    = local.metric_filters["tick_lag"]
      above     = var.tick_lag_alert_seconds
      period    = "60s"
      duration  = "300s"
      aligner   = "ALIGN_PERCENTILE_99"
      reducer   = "REDUCE_MAX"
      help      = "More is due than ticks can deliver, or a few slow destinations take the room. Look at the dashboard: deliveries by status, duration of a tick. Then raise `delivery_concurrency` or `destination_concurrency`, or spread the schedules. See docs/operations.md, alert \"Tasks are called late\"."
    }
    task_deactivated = {
      title     = "A task was deactivated"
      severity  = "WARNING"
      condition = "A task was switched off because it kept failing"
      filter    = local.metric_filters["task_deactivated"]
      above     = 0
      period    = "300s"
      duration  = "0s"
      aligner   = "ALIGN_SUM"
      reducer   = "REDUCE_SUM"
      help      = "Its webhook will not be called again until somebody sets its status to active. The log event `task.deactivated` names the task, its `deactivated_reason` says why. See docs/operations.md, alert \"A task was deactivated\"."
    }
    slots_missed = {
      title     = "Slots were missed"
      severity  = "WARNING"
      condition = "Slots came too late to run, and the policies of their tasks do not make up for them"
      filter    = local.metric_filters["slots_missed"]
      above     = 0
      period    = "300s"
      duration  = "0s"
      aligner   = "ALIGN_SUM"
      reducer   = "REDUCE_SUM"
      help      = "Their webhooks were not called for these slots: mostly no tick ran for more than 2 minutes. The log event `tick.summary` says how many, in `missed`; the task logs with the status `missed` say which. See docs/operations.md, alert \"Slots were missed\"."
    }
    notification_dropped = {
      title     = "A notification was dropped"
      severity  = "ERROR"
      condition = "A notification was not taken by its receiver, and will not be sent again"
      filter    = local.metric_filters["notification_dropped"]
      above     = 0
      period    = "300s"
      duration  = "0s"
      aligner   = "ALIGN_SUM"
      reducer   = "REDUCE_SUM"
      help      = "Somebody who relies on notifications was not told of a failure, or the like. The log event `notification.dropped` names what it would have told and, in `error`, why it was not taken. See docs/operations.md, alert \"A notification was dropped\"."
    }
    tick_failed = {
      title     = "Ticks fail"
      severity  = "CRITICAL"
      condition = "3 or more ticks failed within 10 minutes"
      filter    = local.metric_filters["tick_failed"]
      above     = 2
      period    = "600s"
      duration  = "0s"
      aligner   = "ALIGN_SUM"
      reducer   = "REDUCE_SUM"
      help      = "A single failure is made good by the next tick; several mean that the database is away, full, or behind the code. The log event `tick.failed` says which. See docs/operations.md, alert \"Ticks fail\"."
    }
    database_disk = {
      title     = "The database is almost full"
      severity  = "CRITICAL"
      condition = "More than 90 % of the disk is in use, and it has grown as far as it may"
      filter    = "${local.database_series} AND metric.type = \"cloudsql.googleapis.com/database/disk/utilization\""
      above     = 0.9
      period    = "300s"
      duration  = "0s"
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      help      = "PostgreSQL refuses to write when its disk is full; then no tick can work. Raise `database_max_disk_gb`, or delete what is not needed. See docs/operations.md, alert \"The database is almost full\"."
    }
    api_errors = {
      title     = "The API answers 5xx"
      severity  = "ERROR"
      condition = "More than 5 answers with 5xx within 5 minutes"
      filter    = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = one_of(${local.http_services}) AND metric.type = \"run.googleapis.com/request_count\" AND metric.labels.response_code_class = \"5xx\""
      above     = 5
      period    = "300s"
      duration  = "0s"
      aligner   = "ALIGN_SUM"
      reducer   = "REDUCE_SUM"
      help      = "503 with Retry-After means that the database is away or its schema is being brought up to date, which ends by itself; 500 is a bug, with a traceback in the log. See docs/operations.md, alert \"The API answers 5xx\"."
    }
  }
}

resource "google_monitoring_notification_channel" "email" {
  count = var.notification_email == null ? 0 : 1

  project      = var.project_id
  display_name = "Insignia (${var.name})"
  type         = "email"
  labels       = { email_address = var.notification_email }
  user_labels  = local.labels

  depends_on = [google_project_service.api]
}

resource "google_monitoring_alert_policy" "no_tick" {
  project               = var.project_id
  display_name          = "Insignia (${var.name}): no tick for 5 minutes"
  combiner              = "OR"
  severity              = "CRITICAL"
  enabled               = !var.paused
  notification_channels = local.notification_channels
  user_labels           = local.labels

  conditions {
    display_name = "No tick.summary was logged for 5 minutes"
    condition_absent {
      filter   = local.metric_filters["tick_summary"]
      duration = "300s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  # A counter may also go on with zeros after its last log entry, which is not absence.
  conditions {
    display_name = "Less than one tick.summary in 5 minutes"
    condition_threshold {
      filter          = local.metric_filters["tick_summary"]
      comparison      = "COMPARISON_LT"
      threshold_value = 1
      duration        = "0s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "No webhook is called. Is the Cloud Scheduler job `${local.names["tick"]}` paused, or does it fail? Does `${local.names["tick"]}` log errors? See docs/operations.md, alert \"No tick for 5 minutes\"."
  }

  alert_strategy {
    auto_close = "86400s"
  }

  depends_on = [google_cloud_scheduler_job.tick] # see below
}

resource "google_monitoring_alert_policy" "threshold" {
  for_each = local.thresholds

  project               = var.project_id
  display_name          = "Insignia (${var.name}): ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.notification_channels
  user_labels           = local.labels

  conditions {
    display_name = each.value.condition
    condition_threshold {
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.above
      duration        = each.value.duration
      aggregations {
        alignment_period     = each.value.period
        per_series_aligner   = each.value.aligner
        cross_series_reducer = each.value.reducer
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = each.value.help
  }

  alert_strategy {
    auto_close = "86400s"
  }

  # Monitoring refuses an alert on a log-based metric that is younger than some minutes. The scheduler's job is made
  # last, after a database and the functions: by then the metrics are known.
  depends_on = [google_cloud_scheduler_job.tick]
}
