"""An attempt belongs to one process until its lease ends; then another one takes the run over."""

from domain.run import RunStatus
from domain.task import TaskStatus
from tests.integration.conftest import Insignia, assert_adds_up
from tests.receiver import Answer, Received, Receiver


def test_a_run_whose_process_died_is_rescued_when_its_lease_ends(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = insignia.create_due(receiver.url)
        (claimed,) = insignia.claim()
        assert insignia.tick().started == 0
        insignia.end_leases_and_waits()
        summary = insignia.tick()
    (log,) = insignia.logs(task.id)
    assert (str(log.id), log.status, summary.succeeded) == (claimed.id, "success", 1)
    assert [attempt["outcome"] for attempt in log.attempts] == ["unknown", "success"]
    assert receiver.requests[0].headers["X-Insignia-Attempt"] == "2"


def test_the_third_lost_lease_ends_the_run(insignia: Insignia) -> None:
    task = insignia.create_due("http://127.0.0.1:9/")
    insignia.claim()
    for _ in range(2):
        insignia.end_leases_and_waits()
        assert len(insignia.claim_due_runs()) == 1
    insignia.end_leases_and_waits()
    summary = insignia.tick()
    (log,) = insignia.logs(task.id)
    assert log.status is RunStatus.FAILED
    assert [attempt["outcome"] for attempt in log.attempts] == ["unknown"] * 3
    state = insignia.task(task.id)
    assert (state.status, state.consecutive_failures) == (TaskStatus.ACTIVE, 0)
    assert (state.last_status, state.last_run_at) == ("failed", log.execution_time)
    assert summary.failed == 1
    assert_adds_up(summary)


def test_a_result_whose_lease_was_lost_is_recorded_as_late_and_not_applied(insignia: Insignia) -> None:
    other: list[str] = []

    def lose_the_lease(request: Received) -> Answer:
        if not other:
            insignia.end_leases_and_waits()
            other.extend(run.lease_id for run in insignia.claim_due_runs())
        return 200, b""

    with Receiver(lose_the_lease) as receiver:
        task = insignia.create_due(receiver.url)
        summary = insignia.tick()
    (log,) = insignia.logs(task.id)
    assert (log.status, summary.late) == ("running", 1)
    assert [attempt.get("outcome") for attempt in log.attempts] == ["late", None]
    lease = insignia.execute("SELECT lease_id FROM task_logs").scalar_one()
    assert [str(lease)] == other
    assert_adds_up(summary)
