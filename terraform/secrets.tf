locals {
  # Each setting with the number of its version: of the tokens that are made here, and of what somebody has given.
  tokens = merge(
    { API_TOKEN = var.api_token_version },
    var.read_token ? { API_READ_TOKEN = var.read_token_version } : {},
  )
  given = {
    for setting, value in {
      HEARTBEAT_URL         = var.heartbeat_url
      NOTIFY_URL            = var.notify_url
      NOTIFY_SIGNING_SECRET = var.notify_signing_secret
    } : setting => value if nonsensitive(value != null)
  }
  # 28 bits of a hash: another value is another version, and the number tells nothing of it.
  given_versions = { for setting, value in local.given : setting => nonsensitive(parseint(substr(sha256(value), 0, 7), 16)) }
  secrets        = merge(local.tokens, local.given_versions)
}

# Never in the state: made at each run, written only when its version number changes.
ephemeral "random_password" "token" {
  for_each = local.tokens

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
  secret_data_wo         = contains(keys(local.tokens), each.key) ? ephemeral.random_password.token[each.key].result : local.given[each.key]
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
