"""What a tick reads, and how often the server plans for it (plans.py)."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine, make_url, text

from db.backlog import complete_tasks, seconds_until_next
from db.driver import KEPT
from db.engine import make_tick_engine, transaction
from db.places import open_places
from db.run_claims import claim_due_runs
from db.slot_claims import claim_slots
from db.tables import task_logs
from tests.bench.filled import COPY_STATES, COPY_TASKS, Filled, copies
from tests.integration.conftest import Insignia, room
from tests.integration.plans import FIRST_COPY, MOST_ROWS, explain_all, plans_of, steps, steps_of, wasteful
from tests.receiver import Receiver

DUE, RETRIES, FAILURES = 100, 40, 5
MAKE_DUE = """
WITH moved AS (
    UPDATE tasks SET webhook_url = :url WHERE id IN (
        SELECT md5('task' || n)::uuid FROM generate_series(1, :due) n
    ) RETURNING id
)
UPDATE task_state SET next_run_at = statement_timestamp(), destination = :destination
WHERE task_id IN (SELECT id FROM moved)
"""


@pytest.mark.parametrize("plans", ["auto", "force_generic_plan"])
def test_a_tick_reads_what_is_due_and_little_else(ticking: Engine, plans: str) -> None:
    """Slots, retries and failures; with the plans of the first uses, and those that a connection keeps later."""
    insignia = Insignia(ticking)
    insignia.execute(f"ALTER DATABASE plans SET plan_cache_mode = {plans}")
    ticking.dispose()
    with Receiver(lambda request: (500 if "fails" in request.path else 200, b"")) as receiver:
        insignia.execute(MAKE_DUE, due=DUE, url=receiver.url, destination=receiver.url.rpartition("/")[0])
        for _ in range(RETRIES):
            insignia.begin_run(insignia.create(receiver.url).id)
        for _ in range(FAILURES):
            insignia.create_due(f"{receiver.url}/fails")
        insignia.end_leases_and_waits()
        with plans_of(ticking) as found:
            summary = insignia.tick()
    insignia.execute("ALTER DATABASE plans RESET plan_cache_mode")
    assert (summary.succeeded, summary.deactivated) == (DUE + RETRIES, FAILURES)
    sent = [plan for plan in found if plans == "auto" or KEPT in plan["Query Text"]]
    assert len({plan["Query Text"] for plan in sent}) > 8, (
        "the statements of claims, of settles and of the lookout"
    )
    assert wasteful([step for plan in sent for step in steps_of(plan)]) == []


LET_WAIT = """
WITH waiting AS (
    UPDATE task_state SET next_run_at = NULL, deactivated_at = NULL, status = 'active' WHERE task_id IN (
        SELECT md5('task' || n)::uuid FROM generate_series(1, :runs) n
    ) RETURNING task_id, revision
)
INSERT INTO task_logs (id, task_id, source, status, scheduled_for, execution_time, retry_count, attempts, revision,
    available_at, lost_leases, throttles, created_at)
SELECT gen_random_uuid(), task_id, 'schedule', 'retrying', now(), now(), 0, '[{}]', revision,
    now() + interval '9 seconds', 0, 0, now()
FROM waiting
"""


def test_runs_that_wait_are_not_gone_through_for_the_next_one_or_the_end_of_a_task(filled: Filled) -> None:
    with plans_of(filled.engine) as plans, filled.engine.connect() as connection:
        connection.execute(text(LET_WAIT), {"runs": 2 * MOST_ROWS})
        connection.execute(text("ANALYZE task_logs"))
        plans.clear()
        _, retry_seconds = seconds_until_next(connection, 50)
        complete_tasks(connection, [str(FIRST_COPY)])
        connection.execute(text("SELECT 1"))
        found = [step for plan in plans for step in steps_of(plan)]
    assert 0 < retry_seconds < 9
    assert "task_logs_under_way" in {step.index for step in found}
    assert wasteful(found) == []


FALL_DUE = """
UPDATE task_state SET next_run_at = statement_timestamp(), destination = 'http://' || mod(n, 200)
FROM generate_series(CAST(:first AS int), :last) n WHERE task_id = md5('task' || n)::uuid AND status = 'active'
"""


@pytest.mark.parametrize("plans", ["auto", "force_generic_plan"])
def test_a_claim_neither_reads_nor_sorts_a_backlog_of_thousands(filled: Filled, plans: str) -> None:
    runs, slots = 2 * MOST_ROWS, {"first": 2 * MOST_ROWS + 1, "last": 4 * MOST_ROWS}
    with plans_of(filled.engine) as found, filled.engine.connect() as connection:
        connection.execute(text(f"SET LOCAL plan_cache_mode = {plans}"))
        connection.execute(text(FALL_DUE), slots)
        connection.execute(text(LET_WAIT), {"runs": runs})
        connection.execute(text("UPDATE task_logs SET available_at = now() WHERE status = 'retrying'"))
        connection.execute(text("ANALYZE task_logs"))
        found.clear()
        assert len(claim_slots(connection, room(256)).runs) == 256
        assert len(claim_due_runs(connection, room(256)).runs) == 256
        connection.execute(text("SELECT 1"))
        assert wasteful([step for plan in found for step in steps_of(plan)]) == []


@pytest.mark.parametrize("hosts", [1, 200])
def test_the_server_plans_a_claim_no_more_often_than_any_statement(ticking: Engine, hosts: int) -> None:
    with ticking.connect() as connection:
        connection.execute(
            text(
                "UPDATE task_state SET destination = 'http://' || mod(abs(hashtext(task_id::text)), :hosts),"
                " next_run_at = CASE status WHEN 'active' THEN clock_timestamp() END"
            ),
            {"hosts": hosts},
        )
        connection.execute(text("ANALYZE task_state"))
        for calls in (64, 3) * 4:
            claim_slots(connection, replace(room(calls), crowded={"http://7"} if calls == 3 else set()))
            claim_due_runs(connection, room(calls))
        plans = connection.execute(text("SELECT statement, custom_plans FROM pg_prepared_statements"))
        often = [(statement, times) for statement, times in plans if times > 5]
    assert not often


def test_a_claim_counts_calls_by_an_index_scan_which_forgets_those_that_have_ended(ticking: Engine) -> None:
    insignia, url = Insignia(ticking), "http://127.0.0.1:9"
    insignia.execute(MAKE_DUE, due=200, url=url, destination=url)
    with transaction(ticking) as connection:
        assert len(claim_slots(connection, room(200, per_destination=200)).runs) == 200
    insignia.execute("ANALYZE task_logs")
    found = steps(ticking, lambda connection: open_places(connection, room(1), [url], []))
    insignia.execute("DELETE FROM task_logs WHERE status = 'running'")  # which later ticks would take up
    counts = [step for step in found if "AS calls" in step.statement and step.table == "task_logs"]
    assert {(step.kind, step.index) for step in counts} == {("Index Scan", "task_logs_under_way")}


COPY_LOGS = copies(
    task_logs,
    "one.task_id = :task_id AND status = 'success'",
    {"id": "gen_random_uuid()", "source": "'api'", "scheduled_for": "NULL"},
)


@pytest.mark.parametrize("calls", [2, 60])
def test_plans_as_old_as_the_database_read_no_whole_table(
    admin: Engine, database_url: str, insignia: Insignia, calls: int
) -> None:
    """A connection keeps those that the server made while it knew the tables to be empty, or small."""
    insignia.execute("ANALYZE")
    with admin.connect() as connection:
        explain_all(connection, make_url(database_url).database or "")
    tick_engine = make_tick_engine(database_url, pool_size=1)
    with Receiver(lambda request: (500 if "fails" in request.path else 200, b"")) as receiver:
        ids = [insignia.create(f"{receiver.url}/works").id for _ in range(calls - 1)]
        ids.append(insignia.create(f"{receiver.url}/fails").id)
        with plans_of(tick_engine) as found:
            for number in range(8):
                if number == 6:
                    for copy in (COPY_TASKS, COPY_STATES, COPY_LOGS):
                        insignia.execute(copy, task_id=ids[0], first=1, last=2 * MOST_ROWS)
                insignia.make_due(*ids)
                insignia.begin_run(ids[0])
                insignia.end_leases_and_waits()
                Insignia(tick_engine).tick()
    tick_engine.dispose()
    assert wasteful([step for plan in found for step in steps_of(plan)]) == []
