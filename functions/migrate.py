"""POST /migrate: brings the database to the schema of this code."""

from db import migrations
from functions import bootstrap
from functions.auth import Caller
from functions.routing import Routes
from functions.schemas import Migration
from functions.settings import Settings

routes = Routes("Migrate")


def accounts_that_ask(settings: Settings) -> Caller | None:
    """Whose identity tokens open `migrate`: those of the accounts of `tick` and `deliver`, which ask for it."""
    accounts = settings.migrate_service_accounts
    return Caller(accounts) if accounts else None


@routes.add("POST", "/migrate", caller=accounts_that_ask)
def migrate() -> Migration:
    """Upgrade the database's schema, and grant the application's rights to DATABASE_APP_USERS.

    Waits while another migration is under way; a schema that is up to date is left as it is.
    """
    users = bootstrap.settings().database_app_users
    return Migration(schema_revision=migrations.upgrade(bootstrap.existing_database_url(), app_users=users))
