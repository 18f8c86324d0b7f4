locals {
  timeout_seconds = 120
  labels          = merge(var.labels, { app = var.name })
  names           = { for f in keys(local.functions) : f => "${var.name}-${replace(f, "_", "-")}" }

  # `pool` is what db/engine.py and functions/bootstrap.py open at most in one instance; `secrets` name both the
  # setting and the secret.
  http_function = {
    memory      = "512Mi"
    concurrency = 20
    instances   = var.api_max_instances
    pool        = 5
    ingress     = "ALLOW_ALL"
    secrets     = keys(local.tokens)
  }
  calls_webhooks  = ["api", "tasks", "task_logs", "tick", "deliver"]
  notifies        = ["tick", "deliver"]
  calls_migrate   = local.has_workers ? ["tick", "deliver"] : ["tick"]
  reads_scheduler = setintersection(var.http_functions, ["api", "health"])

  functions = merge(
    { for f in var.http_functions : f => local.http_function },
    {
      tick = {
        memory      = "512Mi"
        concurrency = 1
        instances   = 1 # one tick at a time
        pool        = 2
        ingress     = "ALLOW_INTERNAL_ONLY" # Cloud Scheduler of the same project counts as internal
        secrets     = concat(["API_TOKEN"], keys(local.given))
      }
      migrate = {
        memory      = "512Mi"
        concurrency = 1
        instances   = 1
        pool        = 1
        ingress     = "ALLOW_ALL" # a call of tick comes from outside, unless it went through a VPC
        secrets     = []
      }
    },
    var.workers == 0 ? {} : {
      deliver = {
        memory      = "512Mi"
        concurrency = 1 # a message, an instance
        instances   = var.workers
        pool        = 2
        ingress     = "ALLOW_INTERNAL_ONLY" # Pub/Sub of the same project counts as internal
        secrets     = [for setting in keys(local.given) : setting if setting != "HEARTBEAT_URL"]
      }
    },
  )
}
