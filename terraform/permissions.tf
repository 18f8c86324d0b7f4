# Everything that any account may do, but for reading secrets (secrets.tf).

locals {
  this_database = {
    title      = "${var.name}-database"
    expression = "resource.type == 'sqladmin.googleapis.com/Instance' && resource.name == 'projects/${var.project_id}/instances/${local.database_name}'"
  }
}

resource "google_project_iam_member" "database" {
  for_each = {
    for pair in setproduct(keys(local.functions), ["roles/cloudsql.client", "roles/cloudsql.instanceUser"]) :
    "${pair[0]} ${pair[1]}" => { function = pair[0], role = pair[1] }
  }

  project = var.project_id
  role    = each.value.role
  member  = local.members[each.value.function]

  condition {
    title      = local.this_database.title
    expression = local.this_database.expression
  }
}

resource "google_project_iam_member" "scheduler_state" {
  for_each = local.reads_scheduler

  project = var.project_id
  role    = "roles/cloudscheduler.viewer"
  member  = local.members[each.key]
}

# The build

resource "google_project_iam_member" "build_logs" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = local.members["build"]
}

# Cloud Functions copies the zip into a bucket of its own, which is not there before the first function is.
resource "google_project_iam_member" "build_source" {
  project = var.project_id
  role    = "roles/storage.objectViewer"
  member  = local.members["build"]

  condition {
    title      = "${var.name}-function-sources"
    expression = "resource.name.startsWith('projects/_/buckets/gcf-v2-sources-')"
  }
}

resource "google_storage_bucket_iam_member" "build_source" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = local.members["build"]
}

resource "google_artifact_registry_repository_iam_member" "build_images" {
  project    = var.project_id
  location   = var.region
  repository = google_artifact_registry_repository.images.repository_id
  role       = "roles/artifactregistry.writer"
  member     = local.members["build"]
}

# Who may call what

resource "google_cloud_run_v2_service_iam_member" "http" {
  for_each = {
    for pair in setproduct(var.http_functions, var.api_invokers) :
    "${pair[0]} ${pair[1]}" => { function = pair[0], member = pair[1] }
  }

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.function[each.value.function].name
  role     = "roles/run.invoker"
  member   = each.value.member
}

resource "google_cloud_run_v2_service_iam_member" "tick" {
  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.tick.name
  role     = "roles/run.invoker"
  member   = local.members["scheduler"]
}

resource "google_cloud_run_v2_service_iam_member" "migrate" {
  for_each = toset(local.calls_migrate)

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.function["migrate"].name
  role     = "roles/run.invoker"
  member   = local.members[each.key]
}
