"""The code before the last revision of the schema, while that revision is made and after it; and what one may do."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event, text

from db import migrations
from db.engine import make_engine, transaction
from db.migrations import ROOT, SCHEMA_REVISION, upgrade
from db.task_log_counts import LOGS_BY_HOUR
from domain.errors import Unavailable
from functions.schema import require_schema
from tests.acceptance.server import PYTHON, Api, Server, environment
from tests.conftest import url_of
from tests.faults.durable_receiver import DurableReceiver
from tests.integration.conftest import Insignia

MIGRATE = "import sys; from db.migrations import upgrade; print(upgrade(sys.argv[1]))"
BREAKING = {
    "removes what older code reads": r"\bDROP (?:TABLE|COLUMN|TYPE|VIEW)\b",
    "renames what older code reads": r"\bRENAME\b",
    "rewrites a table, or changes what older code reads": r"\bALTER COLUMN \w+ (?:SET DATA )?TYPE\b",
    "refuses what older code writes": r"\bSET NOT NULL\b|ADD COLUMN (?!.*\bDEFAULT\b).*\bNOT NULL\b",
}
DROPPED_CONSTRAINT = re.compile(r"DROP CONSTRAINT (\w+)")


@pytest.fixture
def empty_database_url(admin: Engine) -> Iterator[str]:
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE upgraded"))
    yield url_of(admin.url.render_as_string(hide_password=False), "upgraded")
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE upgraded WITH (FORCE)"))


@pytest.fixture(scope="session")
def previous_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code right before the newest revision came, out of the history of this repository."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("there is no history to take it from; clone the repository with git")
    search = ["log", "--first-parent", "-m", "-1", "--format=%H", f'-SSCHEMA_REVISION = "{SCHEMA_REVISION}"']
    came = git(*search, "--", "db/migrations.py").decode().strip()
    is_shallow = git("rev-parse", "--is-shallow-repository").strip() == b"true"
    if is_shallow or not came:
        pytest.skip("its history is not here; fetch it with `git fetch --unshallow`")
    directory = tmp_path_factory.mktemp("previous")
    archive = git("archive", f"{came}^1", "main.py", "alembic.ini", "domain", "db", "functions", "migrations")
    subprocess.run(["tar", "-x", "-C", directory], input=archive, check=True)
    return directory


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", ROOT, *arguments], check=True, capture_output=True).stdout


def test_previous_code_ticks_while_the_schema_is_upgraded_and_after_it(
    previous_code: Path, empty_database_url: str, tmp_path: Path
) -> None:
    """No slot is lost and none runs twice: the ticks of the old code, the migration in their midst, the new code."""
    url = empty_database_url
    migrated = subprocess.run(
        [PYTHON, "-c", MIGRATE, url], cwd=previous_code, check=True, capture_output=True, env=environment({})
    )
    assert migrated.stdout.decode().strip() < SCHEMA_REVISION
    server = Server(tmp_path, {"DATABASE_URL": url, "EGRESS_ALLOW": "127.0.0.1"}, source=previous_code)
    with DurableReceiver(tmp_path) as receiver, ThreadPoolExecutor() as pool:
        try:
            server.wait_until_ready()
            api, insignia = Api(server.url), Insignia(make_engine(url, pool_size=0))
            base = insignia.now()
            for path in [*["/ok"] * 40, *["/fail/1"] * 5, *["/hold"] * 5]:
                api.create(webhook_url=receiver.urls[0] + path, timeout_seconds=40, overlap_policy="allow")
            make_due(insignia, base - timedelta(seconds=9))
            ticks = [pool.submit(api.tick) for _ in range(2)]
            receiver.wait_for(50)

            assert upgrade(url) == SCHEMA_REVISION
            assert not all(tick.done() for tick in ticks), (
                "calls are in flight, and their results are to come"
            )
            make_due(insignia, base - timedelta(seconds=6))
            receiver.release()
            summaries = [tick.result() for tick in ticks] + [api.tick()]

            make_due(insignia, base - timedelta(seconds=3))
            summaries.append(api.tick())
            assert api.get("/health")["status"] == "healthy"
            assert api.create(webhook_url=f"{receiver.urls[0]}/ok")["revision"] == 1
        finally:
            server.stop()
        make_due(insignia, base)
        assert insignia.tick(budget_seconds=50).succeeded == 51

        rows = insignia.execute("SELECT status, scheduled_for, task_id, attempts FROM task_logs").all()
        slots = {(row.task_id, row.scheduled_for) for row in rows}
        assert len(slots) == len(rows), "I1"
        assert {row.status for row in rows} == {"success"}, "I2"
        assert len(receiver.calls()) == sum(len(row.attempts) for row in rows), "I3"
        assert len(rows) == 4 * 50 + 1, "I2: each task has four slots, and the last one made has one"
        assert not any(summary["unsettled"] for summary in summaries)


def make_due(insignia: Insignia, slot: datetime) -> None:
    """A slot for each task."""
    insignia.execute("UPDATE task_state SET next_run_at = :slot", slot=slot)


def test_new_code_refuses_each_older_schema_with_one_line(empty_database_url: str) -> None:
    scripts = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    upgrade(empty_database_url)
    engine = make_engine(empty_database_url, pool_size=0)
    require_schema(engine, None, is_stopping=lambda: False)
    for script in scripts.walk_revisions():
        if script.revision == SCHEMA_REVISION:
            continue
        with transaction(engine) as connection:
            connection.execute(
                text("UPDATE alembic_version SET version_num = :old"), {"old": script.revision}
            )
        with pytest.raises(Unavailable) as refused:
            require_schema(engine, None, is_stopping=lambda: False)
        assert str(refused.value) == (
            "The database's schema is older than this code; run the migration: POST /migrate of the function "
            "migrate, or `alembic upgrade head`."
        )


def test_each_revision_only_adds(empty_database_url: str) -> None:
    """So that the code before it runs on; a constraint that is dropped comes back wider in the same revision."""
    statements: list[str] = []

    def note(_: Connection, __: object, statement: str, *___: object) -> None:
        statements.append(" ".join(statement.split()))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        upgrade(empty_database_url)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    revisions = "\n".join(statements).split("UPDATE alembic_version SET")
    assert len(revisions) == int(SCHEMA_REVISION), "they are told apart"
    for revision, made in enumerate(revisions[1:], start=2):
        assert not breaking(made), f"revision {revision:04}"


def breaking(statements: str) -> list[str]:
    """What is wrong with the statements of a revision, a line each."""
    found = [what for what, pattern in BREAKING.items() if re.search(pattern, statements, re.IGNORECASE)]
    missing = [
        f"drops the constraint {name} for good"
        for name in DROPPED_CONSTRAINT.findall(statements)
        if not re.search(rf"ADD CONSTRAINT {name}\b", statements)
    ]
    return found + missing


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE tasks DROP COLUMN name",
        "DROP TABLE ticks",
        "ALTER TABLE tasks RENAME COLUMN name TO title",
        "ALTER TABLE tasks ALTER COLUMN name TYPE varchar",
        "ALTER TABLE tasks ALTER COLUMN run_at SET NOT NULL",
        "ALTER TABLE tasks ADD COLUMN more TEXT NOT NULL",
        "ALTER TABLE task_logs DROP CONSTRAINT task_logs_source_known",
    ],
)
def test_what_breaks_older_code_would_be_found(statement: str) -> None:
    assert breaking(statement)


def test_what_adds_is_allowed() -> None:
    assert not breaking(
        "ALTER TABLE tasks ADD COLUMN more TEXT DEFAULT '' NOT NULL\nALTER TABLE tasks ADD COLUMN other TEXT\n"
        "ALTER TABLE t DROP CONSTRAINT c\nALTER TABLE t ADD CONSTRAINT c CHECK (true)\nDROP INDEX i"
    )


ADD_LOGS = """
INSERT INTO task_logs
    (id, task_id, source, status, execution_time, retry_count, attempts, lost_leases, throttles, created_at)
SELECT gen_random_uuid(), gen_random_uuid(), 'api', 'success', now(), 0, '[]', 0, 0, now() - n * interval '1 min'
FROM generate_series(1, :logs) n
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'"


def test_logs_are_counted_for_the_first_time_while_others_write(empty_database_url: str) -> None:
    """What is committed before, meanwhile and after it is in the number once; as long as it takes, nobody waits."""
    insignia = Insignia(make_engine(empty_database_url, pool_size=0))
    config = Config(ROOT / "alembic.ini")
    with migrations.migration_connection(empty_database_url) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0012")
        connection.commit()
        insignia.execute(ADD_LOGS, logs=100)
        command.upgrade(config, "0013")
    insignia.execute(ADD_LOGS, logs=10)
    with ThreadPoolExecutor() as pool, insignia.engine.connect() as writer:
        writer.execute(text(ADD_LOGS), {"logs": 20})
        writer.execute(text("DELETE FROM task_logs WHERE created_at < now() - interval '14.5 min'"))
        upgraded = pool.submit(upgrade, empty_database_url)
        while not insignia.execute(WAITING).scalar_one():
            assert not upgraded.done(), "it has counted by now, and waits for a moment without writers"
        writer.commit()
        assert upgraded.result() == SCHEMA_REVISION
    insignia.execute(ADD_LOGS, logs=5)
    counted = insignia.execute("SELECT count(*) FROM task_logs").scalar_one()
    assert insignia.execute(f"SELECT sum(logs) FROM ({LOGS_BY_HOUR})").scalar_one() == counted == 43  # noqa: S608


def test_a_migration_does_not_make_everybody_wait_for_a_long_reader(
    database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 1)
    with engine.begin() as backup:
        backup.execute(text("LOCK TABLE tasks IN ACCESS SHARE MODE"))
        with (
            pytest.raises(Unavailable, match="the database is busy with a conflicting change"),
            migrations.migration_connection(database_url) as connection,
            connection.begin(),
        ):
            connection.execute(text("ALTER TABLE tasks ADD COLUMN more TEXT"))
    with migrations.migration_connection(database_url) as connection, connection.begin():
        connection.execute(text("ALTER TABLE tasks ADD COLUMN more TEXT"))
