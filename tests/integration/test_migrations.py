"""migrations/ and db/tables.py say the same."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine

from db.migrations import upgrade
from db.tables import metadata


def test_autogenerate_finds_no_difference_after_an_upgrade(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_an_upgrade_of_a_current_schema_changes_nothing(database_url: str) -> None:
    assert upgrade(database_url) == upgrade(database_url) == "0003"
