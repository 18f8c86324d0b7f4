# Counted from the events of docs/events.md, whose names and fields are stable.

locals {
  log_of_tick  = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local.names["tick"]}\""
  log_of_calls = !local.has_workers ? local.log_of_tick : "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(\"${local.names["tick"]}\" OR \"${local.names["deliver"]}\")"

  counters = {
    tick_summary         = { title = "Ticks", filter = "${local.log_of_tick} AND jsonPayload.event=\"tick.summary\"" }
    tick_failed          = { title = "Failed ticks", filter = "${local.log_of_tick} AND jsonPayload.event=\"tick.failed\"" }
    task_deactivated     = { title = "Deactivated tasks", filter = "${local.log_of_calls} AND jsonPayload.event=\"task.deactivated\"" }
    slots_missed         = { title = "Ticks that found slots too late to run", filter = "${local.log_of_calls} AND jsonPayload.event=(\"tick.summary\" OR \"worker.summary\") AND jsonPayload.missed>0" }
    notification_dropped = { title = "Dropped notifications", filter = "${local.log_of_calls} AND jsonPayload.event=\"notification.dropped\"" }
  }
  durations = {
    tick_lag      = { field = "lag_seconds", title = "Lag of the oldest due task at the start of a tick" }
    tick_duration = { field = "duration_seconds", title = "Duration of a tick" }
  }
}

resource "google_logging_metric" "counter" {
  for_each = local.counters

  project     = var.project_id
  name        = "${var.name}/${each.key}"
  description = "Insignia: ${each.value.title}"
  filter      = each.value.filter

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = each.value.title
  }

  depends_on = [google_project_service.api]
}

resource "google_logging_metric" "delivery" {
  project     = var.project_id
  name        = "${var.name}/delivery"
  description = "Insignia: deliveries by status"
  filter      = "${local.log_of_calls} AND jsonPayload.event=(\"run.finished\" OR \"run.retrying\" OR \"run.late\")"

  label_extractors = {
    status = "EXTRACT(jsonPayload.status)"
  }

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "Deliveries"
    labels {
      key        = "status"
      value_type = "STRING"
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_logging_metric" "duration" {
  for_each = local.durations

  project         = var.project_id
  name            = "${var.name}/${each.key}"
  description     = "Insignia: ${each.value.field} of tick.summary"
  filter          = "${local.log_of_tick} AND jsonPayload.event=\"tick.summary\""
  value_extractor = "EXTRACT(jsonPayload.${each.value.field})"

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "DISTRIBUTION"
    unit         = "s"
    display_name = each.value.title
  }

  # From 1 s to about a day, in steps of a fifth: a percentile is that exact.
  bucket_options {
    exponential_buckets {
      num_finite_buckets = 64
      growth_factor      = 1.2
      scale              = 1
    }
  }

  depends_on = [google_project_service.api]
}

locals {
  metric_types = {
    for key, metric in merge(google_logging_metric.counter, google_logging_metric.duration, { delivery = google_logging_metric.delivery }) :
    key => "logging.googleapis.com/user/${metric.name}"
  }
}
