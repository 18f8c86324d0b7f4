# Nothing of this is made unless private_network or egress_addresses ask for it.

locals {
  has_egress_addresses = length(var.egress_addresses) > 0
  has_network          = var.private_network || local.has_egress_addresses

  # Functions that call webhooks leave by the NAT; the others enter the VPC only to reach the database.
  functions_in_network = !local.has_network ? {} : {
    for f in keys(local.functions) : f => local.has_egress_addresses && contains(["api", "tasks", "task_logs", "tick"], f) ? "VPC_EGRESS_ALL_TRAFFIC" : "VPC_EGRESS_PRIVATE_RANGES_ONLY"
  }
}

resource "google_compute_network" "main" {
  count = local.has_network ? 1 : 0

  project                 = var.project_id
  name                    = var.name
  auto_create_subnetworks = false

  depends_on = [google_project_service.api]
}

resource "google_compute_subnetwork" "main" {
  count = local.has_network ? 1 : 0

  project                  = var.project_id
  region                   = var.region
  name                     = var.name
  network                  = google_compute_network.main[0].id
  ip_cidr_range            = var.subnet_cidr
  private_ip_google_access = true
}

# The range in which Google makes the database's private address

resource "google_compute_global_address" "database" {
  count = var.private_network ? 1 : 0

  project       = var.project_id
  name          = "${var.name}-database"
  network       = google_compute_network.main[0].id
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
}

resource "google_service_networking_connection" "main" {
  count = var.private_network ? 1 : 0

  network                 = google_compute_network.main[0].id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.database[0].name]
  deletion_policy         = "ABANDON" # Google holds on to it for days after the database is gone

  depends_on = [google_project_service.api]
}

# The addresses from which webhooks are called

resource "google_compute_router" "main" {
  count = local.has_egress_addresses ? 1 : 0

  project = var.project_id
  region  = var.region
  name    = var.name
  network = google_compute_network.main[0].id
}

resource "google_compute_router_nat" "main" {
  count = local.has_egress_addresses ? 1 : 0

  project                = var.project_id
  region                 = var.region
  name                   = var.name
  router                 = google_compute_router.main[0].name
  nat_ip_allocate_option = "MANUAL_ONLY"
  nat_ips                = [for a in var.egress_addresses : "https://www.googleapis.com/compute/v1/projects/${var.project_id}/regions/${var.region}/addresses/${a}"]

  source_subnetwork_ip_ranges_to_nat = "LIST_OF_SUBNETWORKS"
  subnetwork {
    name                    = google_compute_subnetwork.main[0].id
    source_ip_ranges_to_nat = ["ALL_IP_RANGES"]
  }

  # One tick makes hundreds of calls at once, many to the same host; the default is 64 ports.
  enable_dynamic_port_allocation      = true
  enable_endpoint_independent_mapping = false
  min_ports_per_vm                    = 512
  max_ports_per_vm                    = 16384

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }
}
