"""Runs the revisions: on the connection of db/migrations.py, or by itself for the alembic command line."""

from alembic import context
from sqlalchemy import Connection

from db.tables import metadata


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


connection = context.config.attributes.get("connection")
if connection is not None:
    run(connection)
else:
    from db.migrations import migration_connection
    from functions.bootstrap import migration_database_url

    with migration_database_url() as url, migration_connection(url) as connection:
        run(connection)
