"""POST /migrate: brings the database to the schema of this code."""

from db import migrations
from functions import bootstrap
from functions.routing import Routes
from functions.schemas import Migration

routes = Routes("Migrate")


@routes.add("POST", "/migrate")
def migrate() -> Migration:
    """Upgrade the database's schema.

    Waits while another migration is under way; a schema that is up to date is left as it is.
    """
    return Migration(schema_revision=migrations.upgrade(bootstrap.existing_database_url()))
