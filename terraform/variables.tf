variable "project_id" {
  description = "Google Cloud project in which everything is made. It must exist and have billing enabled."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id must be the project's ID (6 to 30 lower-case letters, digits, hyphens), not its name or number; `gcloud projects list` shows it."
  }
}

variable "region" {
  description = "Region of the functions, the database and the scheduler, such as europe-west1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region must be a region such as europe-west1, not a zone (europe-west1-b) or a multi-region (EU)."
  }
}

variable "name" {
  description = "Begins the name of everything that is made. Choose another one for a second Insignia in the same project."
  type        = string
  default     = "insignia"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,16}[a-z0-9]$", var.name))
    error_message = "name must have 2 to 18 lower-case letters, digits and hyphens, begin with a letter and not end with a hyphen: service accounts have at most 30 characters."
  }
}

variable "labels" {
  description = "Labels for every resource that can have some, besides `app`."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "labels must have keys and values of at most 63 lower-case letters, digits, _ and -, and keys must begin with a letter."
  }
}

# Functions

variable "http_functions" {
  description = "Functions that serve the API: `api` is all of it; `tasks`, `task_logs` and `health` are its parts, deployed one by one."
  type        = set(string)
  default     = ["api"]

  validation {
    condition     = length(var.http_functions) > 0 && alltrue([for f in var.http_functions : contains(["api", "tasks", "task_logs", "health"], f)])
    error_message = "http_functions must name at least one of api, tasks, task_logs, health; tick and migrate are always there."
  }
}

variable "api_invokers" {
  description = "Who may reach the API at all; its bearer token is asked for in any case. Without allUsers a caller also sends a Google identity token, in the header X-Serverless-Authorization."
  type        = set(string)
  default     = ["allUsers"]

  validation {
    condition     = alltrue([for m in var.api_invokers : m == "allUsers" || m == "allAuthenticatedUsers" || can(regex("^(user|group|serviceAccount|domain|principal|principalSet):.+$", m))])
    error_message = "api_invokers must be IAM members: allUsers, or user:..., group:..., serviceAccount:..., domain:..."
  }
}

variable "api_max_instances" {
  description = "The most instances of each function of the API. Each may hold 5 database connections."
  type        = number
  default     = 2

  validation {
    condition     = var.api_max_instances >= 1 && floor(var.api_max_instances) == var.api_max_instances
    error_message = "api_max_instances must be a whole number from 1."
  }
}

variable "runtime" {
  description = "Python of the functions."
  type        = string
  default     = "python313"

  validation {
    condition     = contains(["python312", "python313"], var.runtime)
    error_message = "runtime must be python312 or python313."
  }
}

variable "read_token" {
  description = "Whether the API also knows a token that allows GET only (API_READ_TOKEN)."
  type        = bool
  default     = false
}

variable "api_token_version" {
  description = "Add 1 to replace the API token by a new one; the functions are deployed anew with it, and the old one ends."
  type        = number
  default     = 1

  validation {
    condition     = var.api_token_version >= 1 && floor(var.api_token_version) == var.api_token_version
    error_message = "api_token_version must be a whole number from 1."
  }
}

variable "read_token_version" {
  description = "The same for the read-only token."
  type        = number
  default     = 1

  validation {
    condition     = var.read_token_version >= 1 && floor(var.read_token_version) == var.read_token_version
    error_message = "read_token_version must be a whole number from 1."
  }
}

variable "log_level" {
  description = "LOG_LEVEL of the functions. The alerts need INFO or DEBUG: they count tick.summary."
  type        = string
  default     = "INFO"

  validation {
    condition     = contains(["DEBUG", "INFO"], var.log_level)
    error_message = "log_level must be DEBUG or INFO: with less, tick.summary is not logged, and the alert for missing ticks fires."
  }
}

# Delivery

variable "paused" {
  description = "true stops all deliveries: the scheduler no longer calls tick. What falls due meanwhile follows the misfire policy of its task."
  type        = bool
  default     = false
}

variable "tick_budget_seconds" {
  description = "How long a tick may take (TICK_BUDGET_SECONDS). The function and the scheduler give up at 120 s."
  type        = number
  default     = 50

  validation {
    condition     = var.tick_budget_seconds >= 15 && var.tick_budget_seconds <= 110 && floor(var.tick_budget_seconds) == var.tick_budget_seconds
    error_message = "tick_budget_seconds must be a whole number from 15 to 110: a tick ends before its function is stopped at 120 s."
  }
}

variable "delivery_concurrency" {
  description = "How many webhook calls a tick may have in flight (DELIVERY_CONCURRENCY)."
  type        = number
  default     = 500

  validation {
    condition     = var.delivery_concurrency >= 1 && var.delivery_concurrency <= 10000 && floor(var.delivery_concurrency) == var.delivery_concurrency
    error_message = "delivery_concurrency must be a whole number from 1 to 10000."
  }
}

variable "destination_concurrency" {
  description = "Calls in flight to one destination, of all instances together (DESTINATION_CONCURRENCY)."
  type        = number
  default     = 64

  validation {
    condition     = var.destination_concurrency >= 1 && var.destination_concurrency <= 10000 && floor(var.destination_concurrency) == var.destination_concurrency
    error_message = "destination_concurrency must be a whole number from 1 to 10000."
  }
}

variable "destination_rates" {
  description = "How often hosts may be called, of all instances together (DESTINATION_RATES): host=calls/seconds, or host/*=calls/seconds for each URL of it apart, separated by commas; none switches rates off."
  type        = string
  default     = "discord.com/*=5/2s,discordapp.com/*=5/2s"

  validation {
    condition     = can(regex("^(none|[^\\s,/=]+(/\\*)?=[0-9]{1,4}/[0-9]{1,4}s(,[^\\s,/=]+(/\\*)?=[0-9]{1,4}/[0-9]{1,4}s)*)$", var.destination_rates))
    error_message = "destination_rates must be none, or rates separated by commas, such as discord.com/*=5/2s,api.example.com=30/60s."
  }
}

variable "retention_success_days" {
  description = "For how many days the logs of runs that succeeded are kept (RETENTION_SUCCESS_DAYS)."
  type        = number
  default     = 30

  validation {
    condition     = var.retention_success_days >= 1 && var.retention_success_days <= 36500 && floor(var.retention_success_days) == var.retention_success_days
    error_message = "retention_success_days must be a whole number from 1 to 36500."
  }
}

variable "retention_days" {
  description = "For how many days all other logs are kept (RETENTION_DAYS)."
  type        = number
  default     = 90

  validation {
    condition     = var.retention_days >= 1 && var.retention_days <= 36500 && floor(var.retention_days) == var.retention_days
    error_message = "retention_days must be a whole number from 1 to 36500."
  }
}

variable "workers" {
  description = "How many instances a tick may wake at most, by Pub/Sub, when more is due than it can deliver within its budget (DELIVER_WORKERS). 0 makes nothing of it; each may hold 2 database connections."
  type        = number
  default     = 0

  validation {
    condition     = var.workers >= 0 && var.workers <= 100 && floor(var.workers) == var.workers
    error_message = "workers must be a whole number from 0 to 100."
  }
}

variable "egress_allow" {
  description = "CIDRs that webhooks may reach although they are not public (EGRESS_ALLOW), such as [\"10.0.0.0/8\"] with private_network."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.egress_allow : can(cidrhost(cidr, 0)) && try(cidrhost(cidr, 0) == split("/", cidr)[0], false)])
    error_message = "egress_allow must be CIDRs without host bits, such as 10.0.0.0/8 or fd12::/64."
  }
}

variable "cors_origins" {
  description = "Origins of web pages that may call the API from a browser (CORS_ORIGINS), or [\"*\"] for all."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for origin in var.cors_origins : origin == "*" || can(regex("^https?://[^/?#,\\s]+$", origin))])
    error_message = "cors_origins must be * or origins as browsers send them, without a path, such as https://app.example.com."
  }
}

# Database

variable "database_version" {
  description = "PostgreSQL of Cloud SQL. A greater one upgrades the instance in place; a smaller one is refused by Cloud SQL."
  type        = string
  default     = "POSTGRES_18"

  validation {
    condition     = contains(["POSTGRES_15", "POSTGRES_16", "POSTGRES_17", "POSTGRES_18"], var.database_version)
    error_message = "database_version must be POSTGRES_15 to POSTGRES_18; Insignia is tested on 18."
  }
}

variable "database_tier" {
  description = "Machine of the database: db-f1-micro, db-g1-small (both without an SLA) or db-custom-CPUS-MEGABYTES."
  type        = string
  default     = "db-g1-small"

  validation {
    condition     = can(regex("^db-(f1-micro|g1-small|custom-([1-9]|[1-9][0-9])-[0-9]{4,6})$", var.database_tier))
    error_message = "database_tier must be db-f1-micro, db-g1-small or db-custom-CPUS-MEGABYTES, such as db-custom-1-3840: these are the tiers of edition ENTERPRISE for PostgreSQL."
  }
}

variable "database_max_disk_gb" {
  description = "How far the disk of the database may grow by itself, from 10 GB: what grows without end must not cost without end."
  type        = number
  default     = 100

  validation {
    condition     = var.database_max_disk_gb >= 10 && floor(var.database_max_disk_gb) == var.database_max_disk_gb
    error_message = "database_max_disk_gb must be a whole number from 10; a disk grows and never shrinks."
  }
}

variable "database_high_availability" {
  description = "Whether a standby in a second zone takes over when the first fails (about twice the price)."
  type        = bool
  default     = false
}

variable "deletion_protection" {
  description = "Whether the database is protected, against Terraform and against everybody else. Set it to false and apply before you destroy."
  type        = bool
  default     = true
}

# Network

variable "private_network" {
  description = "Whether the database has a private address only, in a VPC that is made for it, which the functions enter by direct VPC egress."
  type        = bool
  default     = false
}

variable "egress_addresses" {
  description = "Names of reserved regional addresses from which webhooks are called (Cloud NAT). Reserve one with `gcloud compute addresses create`; it is not made here, so that an address in somebody's allow-list outlives this installation."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for a in var.egress_addresses : can(regex("^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", a))])
    error_message = "egress_addresses must be names of addresses in var.region, not the addresses themselves; `gcloud compute addresses list` shows them."
  }
}

variable "subnet_cidr" {
  description = "Range of the subnet that is made for private_network or egress_addresses. Direct VPC egress needs a /26 at least."
  type        = string
  default     = "10.8.0.0/26"

  validation {
    condition     = can(cidrhost(var.subnet_cidr, 0)) && try(tonumber(split("/", var.subnet_cidr)[1]) <= 26, false)
    error_message = "subnet_cidr must be a CIDR of a /26 or larger, such as 10.8.0.0/26: an instance takes two addresses, and old and new ones run side by side."
  }
}

# Monitoring

variable "notification_email" {
  description = "Where alerts are sent. Without it they are shown in Cloud Monitoring only."
  type        = string
  default     = null

  validation {
    condition     = var.notification_email == null || can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.notification_email))
    error_message = "notification_email must be an e-mail address such as ops@example.com, or null."
  }
}

variable "heartbeat_url" {
  description = "HEARTBEAT_URL: a monitor that is called after each tick, and raises the alarm when it stays away. Kept in Secret Manager."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.heartbeat_url == null || can(regex("^https?://[^\\s@]+$", var.heartbeat_url))
    error_message = "heartbeat_url must be an http:// or https:// URL without a user name, or null."
  }
}

variable "notify_url" {
  description = "NOTIFY_URL: whom ticks tell which tasks fail, have recovered, were switched off or missed slots. Kept in Secret Manager."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.notify_url == null || can(regex("^https?://[^\\s@]+$", var.notify_url))
    error_message = "notify_url must be an http:// or https:// URL without a user name, or null."
  }
}

variable "notify_signing_secret" {
  description = "NOTIFY_SIGNING_SECRET: whsec_ and a key in base64, by which notifications are signed; several, separated by commas, while the receiver changes over. Kept in Secret Manager."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.notify_signing_secret == null || can(regex("^whsec_[A-Za-z0-9+/]{32,}=*(,whsec_[A-Za-z0-9+/]{32,}=*)*$", var.notify_signing_secret))
    error_message = "notify_signing_secret must be whsec_ and a key in base64, or several separated by commas, or null."
  }
}

variable "tick_lag_alert_seconds" {
  description = "How late the oldest due task may be, for 5 minutes, before an alert is sent."
  type        = number
  default     = 180

  validation {
    condition     = var.tick_lag_alert_seconds >= 60
    error_message = "tick_lag_alert_seconds must be 60 at least: a task may wait a minute for its tick."
  }
}
