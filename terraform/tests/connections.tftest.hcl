# The functions cannot open more connections than the database allows.

mock_provider "google" {}

override_resource {
  target = random_id.database
  values = { hex = "c0ffee" }
}

variables {
  project_id = "p1-example"
  region     = "europe-west1"
}

run "smallest_tier_with_the_defaults" {
  command = plan
  variables {
    database_tier = "db-f1-micro"
  }
  expect_failures = [google_sql_database_instance.main]
}

run "smallest_tier_with_one_instance" {
  command = plan
  variables {
    database_tier     = "db-f1-micro"
    api_max_instances = 1
  }
  assert {
    condition     = contains([for f in google_sql_database_instance.main.settings[0].database_flags : "${f.name}=${f.value}"], "max_connections=25")
    error_message = "max_connections is that of the tier."
  }
}

run "as_many_instances_as_fit" {
  command = plan
  variables {
    database_tier     = "db-custom-1-3840"
    api_max_instances = 8
  }
  assert {
    condition     = contains([for f in google_sql_database_instance.main.settings[0].database_flags : "${f.name}=${f.value}"], "max_connections=100")
    error_message = "max_connections is that of the memory."
  }
}

run "one_more" {
  command = plan
  variables {
    database_tier     = "db-custom-1-3840"
    api_max_instances = 9
  }
  expect_failures = [google_sql_database_instance.main]
}
