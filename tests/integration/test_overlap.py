"""A slot whose task still has a run under way."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text

from db.engine import transaction
from db.settle import Disposal, settle
from db.slot_claims import claim_slots
from domain.attempt import Attempt, answered
from domain.run import ClaimedRun, RunStatus, decide
from domain.task import OverlapPolicy, Task, TaskStatus
from functions.chores import Chores
from functions.delivery import Deliveries
from functions.held import HeldRuns
from functions.limits import Limits
from functions.ticking import Tick
from tests.integration.conftest import LOOPBACK, Insignia, assert_adds_up, room
from tests.receiver import Receiver

NOWHERE = "http://127.0.0.1:9/"

RUNS_BEGIN_WITH_THEIR_SLOT = """
CREATE FUNCTION begin_with_slot() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.execution_time := NEW.scheduled_for; RETURN NEW; END'
"""
ON_INSERT = "CREATE TRIGGER early BEFORE INSERT ON task_logs FOR EACH ROW EXECUTE FUNCTION begin_with_slot()"
TWO_SLOTS_ARE_DUE = "UPDATE task_state SET next_run_at = clock_timestamp() - interval '61 seconds'"


def create_with_run_under_way(insignia: Insignia, url: str, **fields: Any) -> Task:
    """A task with a slot that is due now, and a run that began with an earlier slot."""
    task = insignia.create_due(url, **fields)
    assert len(insignia.claim()) == 1
    insignia.execute("UPDATE task_logs SET execution_time = scheduled_for WHERE task_id = :id", id=task.id)
    insignia.execute("UPDATE task_state SET next_run_at = clock_timestamp() WHERE task_id = :id", id=task.id)
    return insignia.task(task.id)


def let_wait_for_retry(insignia: Insignia, task: Task) -> None:
    insignia.execute(
        "UPDATE task_logs SET status = 'retrying', available_at = clock_timestamp() + interval '1 hour'"
        " WHERE task_id = :id AND status = 'running'",
        id=task.id,
    )


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.RETRYING])
def test_skip_writes_a_skipped_row_while_an_earlier_run_is_under_way(
    insignia: Insignia, status: RunStatus
) -> None:
    with Receiver() as receiver:
        task = create_with_run_under_way(insignia, receiver.url)
        if status is RunStatus.RETRYING:
            let_wait_for_retry(insignia, task)
        summary = insignia.tick()
    assert receiver.requests == []
    skipped, live = insignia.logs(task.id)
    assert (skipped.status, live.status) == (RunStatus.SKIPPED, status)
    assert skipped.scheduled_for == skipped.execution_time == task.next_run_at
    assert (skipped.attempts, skipped.retry_count, skipped.missed_count) == ([], 0, None)
    assert skipped.finished_at is not None
    assert skipped.message is not None
    assert skipped.message.startswith("Skipped: ")
    state = insignia.task(task.id)
    assert (state.status, state.consecutive_failures, state.last_run_at) == ("active", 0, None)
    assert state.next_run_at is not None
    assert task.next_run_at is not None
    assert state.next_run_at > task.next_run_at
    assert (summary.due, summary.skipped, summary.started, summary.remaining) == (1, 1, 0, 0)
    assert_adds_up(summary)


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.RETRYING])
def test_allow_runs_beside_an_earlier_run(insignia: Insignia, status: RunStatus) -> None:
    with Receiver() as receiver:
        task = create_with_run_under_way(insignia, receiver.url, overlap_policy=OverlapPolicy.ALLOW)
        if status is RunStatus.RETRYING:
            let_wait_for_retry(insignia, task)
        summary = insignia.tick()
    assert [log.status for log in insignia.logs(task.id)] == [RunStatus.SUCCESS, status]
    assert (summary.skipped, summary.succeeded) == (0, 1)


def test_a_run_that_has_ended_is_in_nobodys_way(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = create_with_run_under_way(insignia, receiver.url)
        insignia.execute(
            "UPDATE task_logs SET status = 'failed', available_at = NULL, finished_at = clock_timestamp()"
        )
        assert insignia.tick().succeeded == 1
    assert insignia.logs(task.id)[0].status is RunStatus.SUCCESS


def test_a_run_that_began_after_the_slot_does_not_skip_it(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = create_with_run_under_way(insignia, receiver.url)
        insignia.execute("UPDATE task_logs SET execution_time = clock_timestamp()")
        summary = insignia.tick()
    assert (summary.succeeded, summary.skipped) == (1, 0)
    assert insignia.logs(task.id)[0].status is RunStatus.SUCCESS


def test_the_runs_of_other_tasks_are_in_nobodys_way(insignia: Insignia) -> None:
    with Receiver() as receiver:
        create_with_run_under_way(insignia, receiver.url)
        other = insignia.create_due(receiver.url)
        insignia.tick()
    assert [log.status for log in insignia.logs(other.id)] == ["success"]


def test_a_claim_sees_the_run_that_another_claim_has_just_committed(insignia: Insignia) -> None:
    insignia.execute(RUNS_BEGIN_WITH_THEIR_SLOT)
    insignia.execute(ON_INSERT)
    task = insignia.create(NOWHERE, schedule="* * * * *")
    insignia.execute(TWO_SLOTS_ARE_DUE)
    with transaction(insignia.engine) as connection:
        assert len(claim_slots(connection, room(10)).runs) == 1
        assert insignia.claim() == []  # held by the first, so left alone
    assert insignia.claim() == []
    assert [log.status for log in insignia.logs(task.id)] == ["skipped", "running"]


ARE_SLOTS_DUE = "SELECT EXISTS (SELECT FROM task_state WHERE next_run_at <= statement_timestamp())"


def test_claims_at_once_never_start_two_runs_of_a_task(insignia: Insignia) -> None:
    insignia.execute(RUNS_BEGIN_WITH_THEIR_SLOT)
    insignia.execute(ON_INSERT)
    for _ in range(40):
        insignia.create(NOWHERE, schedule="* * * * *")
    insignia.execute(TWO_SLOTS_ARE_DUE)

    def claim_all() -> list[str]:
        claimed = []
        while insignia.execute(ARE_SLOTS_DUE).scalar_one():
            claimed += [run.task_id for run in insignia.claim(5)]
        return claimed

    with ThreadPoolExecutor(4) as pool:
        claims = [pool.submit(claim_all) for _ in range(4)]
        claimed = [task_id for claim in claims for task_id in claim.result()]
    assert len(claimed) == len(set(claimed)) == 40
    statuses = Counter(log.status for log in insignia.logs())
    assert statuses[RunStatus.RUNNING] == 40
    assert statuses.keys() == {RunStatus.RUNNING, RunStatus.SKIPPED}


FAILURE = answered(500, duration_ms=1, success_statuses=[range(200, 300)])
SUCCESS = answered(200, duration_ms=1, success_statuses=[range(200, 300)])


def begin_two_runs_of_which_one_is_the_last(
    insignia: Insignia, deactivate_after: int = 1
) -> tuple[Task, ClaimedRun, ClaimedRun]:
    task = create_with_run_under_way(
        insignia, NOWHERE, overlap_policy=OverlapPolicy.ALLOW, max_retry=0, deactivate_after=deactivate_after
    )
    (last,) = insignia.claim()
    insignia.execute("UPDATE task_state SET next_run_at = NULL")
    first = last._replace(**insignia.execute(FIRST_RUN, last=last.id).one()._asdict())
    return task, first, last


FIRST_RUN = "SELECT id::text AS id, lease_id::text AS lease_id FROM task_logs WHERE id <> :last"


@pytest.mark.parametrize("are_together", [True, False])
def test_a_task_with_its_last_run_still_under_way_is_deactivated_by_an_earlier_failure(
    insignia: Insignia, are_together: bool
) -> None:
    task, first, last = begin_two_runs_of_which_one_is_the_last(insignia)
    failed = decide(first, FAILURE, 0)
    retried = decide(last._replace(max_retry=1), FAILURE, 0)
    with transaction(insignia.engine) as connection:
        settle(connection, [failed, retried] if are_together else [failed])
    assert insignia.task(task.id).status is TaskStatus.INACTIVE
    if not are_together:
        with transaction(insignia.engine) as connection:
            settle(connection, [retried])
    assert insignia.log(UUID(last.id)).status is RunStatus.CANCELLED


def test_failures_of_which_nothing_is_left_complete_their_task(insignia: Insignia) -> None:
    task, first, last = begin_two_runs_of_which_one_is_the_last(insignia, deactivate_after=2)
    with transaction(insignia.engine) as connection:
        settle(connection, [decide(first, FAILURE, 0), decide(last, FAILURE, 0)])
    assert insignia.task(task.id).status is TaskStatus.COMPLETED


def test_what_comes_after_a_deferred_result_of_its_task_is_deferred(insignia: Insignia) -> None:
    """Somebody who holds the task lets go of it before the statement for the second result."""
    task, first, last = begin_two_runs_of_which_one_is_the_last(insignia)

    def let_go(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "settled" in statement:
            holder.rollback()

    with insignia.engine.connect() as holder, transaction(insignia.engine) as connection:
        holder.execute(text("SELECT FROM task_state WHERE task_id = :id FOR UPDATE"), {"id": task.id})
        event.listen(connection, "after_cursor_execute", let_go)
        settlement = settle(connection, [decide(first, FAILURE, 0), decide(last, SUCCESS, 0)])
    assert settlement.disposals == {first.id: Disposal.DEFERRED, last.id: Disposal.DEFERRED}
    assert {log.status for log in insignia.logs(task.id)} == {RunStatus.RUNNING}


def test_what_comes_later_of_a_task_does_not_overtake_its_deferred_result(insignia: Insignia) -> None:
    _, first, last = begin_two_runs_of_which_one_is_the_last(insignia)
    insignia.create_due(NOWHERE)
    (other,) = insignia.claim()
    deferred, later, of_other = (decide(run, SUCCESS, 0) for run in (first, last, other))
    held = HeldRuns()
    held.decisions = [deferred, later, of_other]
    held.put_off(1, [deferred])
    assert held.decisions == [of_other, deferred, later]


def test_a_late_result_waits_for_nobody_who_holds_its_run(insignia: Insignia) -> None:
    task = insignia.create_due(NOWHERE)
    (late,) = insignia.claim()
    insignia.end_leases_and_waits()
    insignia.claim_due_runs()
    result = [decide(late, SUCCESS, 0)]
    with insignia.engine.connect() as holder, transaction(insignia.engine) as connection:
        holder.execute(text("SELECT FROM task_logs FOR UPDATE"))
        assert settle(connection, result).disposals == {late.id: Disposal.DEFERRED}
    with transaction(insignia.engine) as connection:
        assert settle(connection, result).disposals == {late.id: Disposal.LATE}
    assert [one.get("outcome") for one in insignia.logs(task.id)[0].attempts] == ["late", None]


def test_what_comes_after_a_deferred_result_of_its_task_is_deferred_beside_a_bad_result_as_well(
    insignia: Insignia,
) -> None:
    task, first, last = begin_two_runs_of_which_one_is_the_last(insignia)
    insignia.create_due(NOWHERE)
    (bad,) = insignia.claim()
    decisions = [
        decide(first, FAILURE, 0),
        decide(bad, SUCCESS._replace(http_status=99_999), 0),
        decide(last, SUCCESS, 0),
    ]
    limits = Limits(budget_seconds=30, concurrency=10, per_destination=10)

    def let_go(
        _connection: object, _cursor: object, _statement: str, values: Sequence[str], *_: object
    ) -> None:
        if any(first.id in str(value) for value in values) and bad.id not in str(values):
            holder.rollback()

    with insignia.engine.connect() as holder, Deliveries(LOOPBACK) as deliveries:
        holder.execute(text("SELECT FROM task_state WHERE task_id = :id FOR UPDATE"), {"id": task.id})
        event.listen(insignia.engine, "after_cursor_execute", let_go)
        settlement = Tick(insignia.engine, deliveries, Chores(), limits, lambda: False)._record(decisions)
    assert not holder.in_transaction()
    assert settlement.disposals == {
        first.id: Disposal.DEFERRED,
        bad.id: Disposal.FAILED,
        last.id: Disposal.DEFERRED,
    }
    assert {log.status for log in insignia.logs(task.id)} == {RunStatus.RUNNING}


@pytest.mark.parametrize("are_together", [True, False])
@pytest.mark.parametrize(
    ("answers", "status", "failures"),
    [
        ((FAILURE, SUCCESS), TaskStatus.INACTIVE, 0),
        ((SUCCESS, FAILURE), TaskStatus.COMPLETED, 1),
        ((FAILURE, FAILURE), TaskStatus.INACTIVE, 2),
    ],
)
def test_results_of_one_task_count_alike_together_and_one_after_the_other(
    insignia: Insignia,
    answers: tuple[Attempt, Attempt],
    status: TaskStatus,
    failures: int,
    are_together: bool,
) -> None:
    task, *runs = begin_two_runs_of_which_one_is_the_last(insignia)
    decisions = [decide(run, answer, 0) for run, answer in zip(runs, answers, strict=True)]
    for batch in [decisions] if are_together else [[decision] for decision in decisions]:
        with transaction(insignia.engine) as connection:
            settle(connection, batch)
    state = insignia.task(task.id)
    assert (state.status, state.consecutive_failures) == (status, failures)
