locals {
  secrets = merge(
    { API_TOKEN = var.api_token_version },
    var.read_token ? { API_READ_TOKEN = var.read_token_version } : {},
  )
}

# Never in the state: made at each run, written only when its version number changes.
ephemeral "random_password" "token" {
  for_each = local.secrets

  length  = 43
  special = false
}

resource "google_secret_manager_secret" "token" {
  for_each = local.secrets

  project   = var.project_id
  secret_id = "${var.name}-${lower(replace(each.key, "_", "-"))}"
  labels    = local.labels

  replication {
    auto {}
  }

  depends_on = [google_project_service.api]
}

resource "google_secret_manager_secret_version" "token" {
  for_each = local.secrets

  secret                 = google_secret_manager_secret.token[each.key].id
  secret_data_wo         = ephemeral.random_password.token[each.key].result
  secret_data_wo_version = each.value

  lifecycle {
    create_before_destroy = true # the functions run with the old one until they have the new one
  }
}

resource "google_secret_manager_secret_iam_member" "token" {
  for_each = merge([
    for f, function in local.functions : { for secret in function.secrets : "${f} ${secret}" => { function = f, secret = secret } }
  ]...)

  project   = var.project_id
  secret_id = google_secret_manager_secret.token[each.value.secret].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = local.members[each.value.function]
}
