locals {
  database_series = "resource.type = \"cloudsql_database\" AND resource.labels.database_id = \"${var.project_id}:${google_sql_database_instance.main.name}\""

  charts = [
    { title = "Ticks and failed ticks per minute", plots = [
      { filter = local.metric_filters["tick_summary"], aligner = "ALIGN_SUM", reducer = "REDUCE_SUM", by = [], legend = "ticks" },
      { filter = local.metric_filters["tick_failed"], aligner = "ALIGN_SUM", reducer = "REDUCE_SUM", by = [], legend = "failed" },
    ] },
    { title = "Deliveries by status per minute", plots = [
      { filter = local.metric_filters["delivery"], aligner = "ALIGN_SUM", reducer = "REDUCE_SUM", by = ["metric.label.status"], legend = "$${metric.labels.status}" },
    ] },
    { title = "Lag of the oldest due task, in seconds", plots = [
      { filter = local.metric_filters["tick_lag"], aligner = "ALIGN_PERCENTILE_99", reducer = "REDUCE_MAX", by = [], legend = "lag" },
    ] },
    { title = "Duration of a tick, in seconds", plots = [
      { filter = local.metric_filters["tick_duration"], aligner = "ALIGN_PERCENTILE_99", reducer = "REDUCE_MAX", by = [], legend = "duration" },
    ] },
    { title = "Deactivated tasks per minute", plots = [
      { filter = local.metric_filters["task_deactivated"], aligner = "ALIGN_SUM", reducer = "REDUCE_SUM", by = [], legend = "deactivated" },
    ] },
    { title = "Answers of the API by class per minute", plots = [
      { filter = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = one_of(${local.http_services}) AND metric.type = \"run.googleapis.com/request_count\"", aligner = "ALIGN_SUM", reducer = "REDUCE_SUM", by = ["metric.label.response_code_class"], legend = "$${metric.labels.response_code_class}" },
    ] },
    { title = "Database connections, of ${local.max_connections}", plots = [
      { filter = "${local.database_series} AND metric.type = \"cloudsql.googleapis.com/database/postgresql/num_backends\"", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = [], legend = "connections" },
    ] },
    { title = "Database: CPU, memory and disk in use", plots = [
      for what in ["cpu", "memory", "disk"] :
      { filter = "${local.database_series} AND metric.type = \"cloudsql.googleapis.com/database/${what}/utilization\"", aligner = "ALIGN_MEAN", reducer = "REDUCE_MEAN", by = [], legend = what }
    ] },
  ]
}

resource "google_monitoring_dashboard" "main" {
  project = var.project_id

  dashboard_json = jsonencode({
    displayName = "Insignia (${var.name})"
    labels      = { app = var.name }
    mosaicLayout = {
      columns = 12
      tiles = [
        for position, chart in local.charts : {
          xPos   = 6 * (position % 2)
          yPos   = 4 * floor(position / 2)
          width  = 6
          height = 4
          widget = {
            title = chart.title
            xyChart = {
              dataSets = [
                for plot in chart.plots : {
                  plotType       = "LINE"
                  legendTemplate = plot.legend
                  timeSeriesQuery = {
                    timeSeriesFilter = {
                      filter = plot.filter
                      aggregation = {
                        alignmentPeriod    = "60s"
                        perSeriesAligner   = plot.aligner
                        crossSeriesReducer = plot.reducer
                        groupByFields      = plot.by
                      }
                    }
                  }
                }
              ]
            }
          }
        }
      ]
    }
  })
}
