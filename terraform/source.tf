locals {
  repository = "${path.module}/.."

  # .gcloudignore is the one list of what is not uploaded; a pattern there counts at any depth.
  not_uploaded = [
    for line in split("\n", file("${local.repository}/.gcloudignore")) :
    "**/${trimsuffix(trimspace(line), "/")}" if trimspace(line) != "" && !startswith(line, "#")
  ]
}

data "archive_file" "source" {
  type             = "zip"
  source_dir       = local.repository
  excludes         = local.not_uploaded
  output_path      = "${path.root}/.terraform/${var.name}-source.zip"
  output_file_mode = "0644"
}

resource "google_storage_bucket" "source" {
  project  = var.project_id
  name     = "${var.project_id}-${var.name}-source"
  location = var.region
  labels   = local.labels

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true # it holds nothing that cannot be built again

  versioning {
    enabled = true
  }

  # Terraform deletes the zip of yesterday, which leaves a noncurrent version: 30 days to roll back.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 30
      with_state                 = "ARCHIVED"
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_storage_bucket_object" "source" {
  bucket = google_storage_bucket.source.name
  name   = "${var.name}-${data.archive_file.source.output_sha256}.zip"
  source = data.archive_file.source.output_path
}

resource "google_artifact_registry_repository" "images" {
  project       = var.project_id
  location      = var.region
  repository_id = var.name
  description   = "Images that are built of Insignia's functions"
  format        = "DOCKER"
  labels        = local.labels

  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"
    most_recent_versions {
      keep_count = 5
    }
  }
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "2592000s"
    }
  }

  depends_on = [google_project_service.api]
}
