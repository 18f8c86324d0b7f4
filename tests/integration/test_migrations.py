"""migrations/ and db/tables.py say the same; who migrates, and who may do what afterwards."""

import re

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from db.engine import make_engine, sqlstate, transaction
from db.migrations import ROOT, SCHEMA_REVISION, is_schema_behind, upgrade
from db.paging import Page
from db.tables import metadata
from db.task_logs import TaskLogFilter, list_task_logs
from db.tasks import delete_task
from domain.errors import Unavailable
from domain.run import TaskLogOrder
from domain.task import TaskStatus
from tests.integration.cloud_database import APP, MIGRATOR, OTHER_APP, Cloud
from tests.integration.conftest import Insignia
from tests.receiver import Receiver


def test_autogenerate_finds_no_difference_after_an_upgrade(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_tables_are_vacuumed_as_they_are_declared(engine: Engine) -> None:
    """Autogenerate does not look at it."""
    with engine.connect() as connection:
        found = connection.execute(text("SELECT relname, reloptions FROM pg_class WHERE relkind = 'r'")).all()
    options = {name: set(options or ()) for name, options in found}
    for table in metadata.sorted_tables:
        declared = table.dialect_options["postgresql"]["with"] or {}
        assert options[table.name] == {f"{name}={value}" for name, value in declared.items()}, table.name
    assert "autovacuum_vacuum_scale_factor=0.01" in options["task_state"]


def test_an_upgrade_of_a_current_schema_changes_nothing(database_url: str) -> None:
    assert upgrade(database_url) == upgrade(database_url) == SCHEMA_REVISION


def test_the_code_knows_its_revision_without_alembic() -> None:
    scripts = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    assert scripts.get_current_head() == SCHEMA_REVISION
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert all(re.fullmatch(r"[0-9]{4}", revision) for revision in revisions), "they are compared as texts"
    assert sorted(revisions, reverse=True) == revisions


def test_a_migrator_that_is_no_superuser_makes_and_owns_the_schema(cloud: Cloud) -> None:
    assert cloud.migrate() == SCHEMA_REVISION
    with transaction(cloud.engine_as(MIGRATOR)) as connection:
        owners = connection.execute(
            text("SELECT tableowner FROM pg_tables WHERE schemaname = 'public'")
        ).scalars()
        assert set(owners) == {MIGRATOR}
        extensions = connection.execute(text("SELECT extname FROM pg_extension")).scalars()
        assert "pg_trgm" in set(extensions)


def test_the_application_serves_requests_and_ticks_with_its_rights(cloud: Cloud) -> None:
    cloud.migrate(APP)
    cloud.migrate(APP, OTHER_APP)
    for user in (APP, OTHER_APP):
        insignia = Insignia(cloud.engine_as(user))
        with Receiver() as receiver:
            task = insignia.create_due(receiver.url)
            assert insignia.tick().succeeded == 1
        insignia.update(task.id, status=TaskStatus.INACTIVE, name="Another name")
        assert [log.status for log in insignia.logs(task.id)] == ["success"]
        with transaction(insignia.engine) as connection:
            delete_task(connection, task.id)
            assert list_task_logs(connection, TaskLogFilter(), TaskLogOrder.NEWEST, Page(limit=9)).items == []


def test_each_table_may_be_read_and_written_by_the_application(cloud: Cloud) -> None:
    cloud.migrate(APP)
    with transaction(cloud.engine_as(APP)) as connection:
        for table in metadata.sorted_tables:
            for right in ("SELECT", "INSERT", "UPDATE", "DELETE"):
                assert connection.execute(
                    text("SELECT has_table_privilege(:table, :right)"), {"table": table.name, "right": right}
                ).scalar_one(), (table.name, right)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE tasks",
        "ALTER TABLE tasks ADD COLUMN more int",
        "CREATE TABLE more ()",
        "CREATE INDEX more ON tasks (name)",
        "TRUNCATE ticks",
        "CREATE SCHEMA more",
        "CREATE EXTENSION hstore",
        "UPDATE alembic_version SET version_num = '9999'",
        "DROP EXTENSION pg_trgm",
    ],
)
def test_the_application_does_not_change_the_schema(cloud: Cloud, statement: str) -> None:
    cloud.migrate(APP)
    with pytest.raises(ProgrammingError) as caught, cloud.engine_as(APP).begin() as connection:
        connection.execute(text(statement))
    assert sqlstate(caught.value) == "42501"


def test_a_user_who_was_not_named_may_not_even_read(cloud: Cloud) -> None:
    cloud.migrate(APP)
    with (
        pytest.raises(
            Unavailable, match="lacks a right; `migrate` grants them to the users in DATABASE_APP_USERS"
        ),
        transaction(cloud.engine_as(OTHER_APP)) as connection,
    ):
        connection.execute(text("SELECT * FROM tasks"))


def test_tables_of_a_later_revision_come_with_the_same_rights(cloud: Cloud) -> None:
    cloud.migrate(APP)
    with transaction(cloud.engine_as(MIGRATOR)) as connection:
        connection.execute(text("CREATE TABLE later (id int GENERATED BY DEFAULT AS IDENTITY, n serial)"))
    with transaction(cloud.engine_as(APP)) as connection:
        connection.execute(text("INSERT INTO later DEFAULT VALUES"))
        assert connection.execute(text("DELETE FROM later RETURNING n")).scalars().all() == [1]


def test_a_user_who_does_not_exist_is_named_and_nothing_is_migrated(cloud: Cloud) -> None:
    with pytest.raises(
        Unavailable, match=r"DATABASE_APP_USERS names nobody@x\.iam, which .* nothing was migrated"
    ):
        cloud.migrate(APP, "nobody@x.iam")
    with transaction(cloud.engine_as(MIGRATOR)) as connection:
        assert (
            connection.execute(
                text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            ).scalar_one()
            == 0
        )


def test_a_schema_is_behind_until_it_is_migrated_and_may_be_ahead(cloud: Cloud) -> None:
    app, migrator = cloud.engine_as(APP), cloud.engine_as(MIGRATOR)
    assert is_schema_behind(app), "an empty database"
    cloud.migrate()
    assert is_schema_behind(app), "a schema without rights for this user"
    cloud.migrate(APP)
    assert not is_schema_behind(app)
    for revision, is_behind in (("0000", True), ("9999", False), (SCHEMA_REVISION, False)):
        with transaction(migrator) as connection:
            connection.execute(
                text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision}
            )
        assert is_schema_behind(app) is is_behind
    with transaction(migrator) as connection:
        connection.execute(text("DELETE FROM alembic_version"))
    assert is_schema_behind(app)


def test_a_database_that_is_away_is_not_behind_but_unavailable() -> None:
    with pytest.raises(Unavailable):
        is_schema_behind(make_engine("postgresql://127.0.0.1:1/nowhere"))
