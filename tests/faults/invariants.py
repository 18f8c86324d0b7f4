"""I1 to I5 of docs/guarantees.md, from what the database says and what the receiver has written down."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from itertools import takewhile
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from domain.slots import INSTANT, Timing, slots
from domain.summary import TickSummary
from tests.faults.durable_receiver import Call

LIVE = ("running", "retrying")
LOST = ("unknown", "late")
LAST_OUTCOMES: Mapping[str, Collection[str | None]] = {
    "running": (None,),
    "retrying": ("failed", "throttled", *LOST, None),
    "success": ("success",),
    "failed": ("failed", *LOST),
    "cancelled": ("failed", "throttled", *LOST, None),
    "missed": (None,),
    "skipped": (None,),
}

READ_ROWS = text("""
SELECT id, task_id, source, status, scheduled_for, finished_at, http_status, retry_count, lost_leases, throttles,
    revision, attempts, missed_from, missed_to, missed_count
FROM task_logs WHERE source IN ('schedule', 'manual')
    AND (CAST(:task_ids AS uuid[]) IS NULL OR task_id = ANY (CAST(:task_ids AS uuid[])))
ORDER BY task_id, scheduled_for
""")

READ_STATES = text("""
SELECT task_id, status, revision, next_run_at, consecutive_failures, deactivated_at, last_status, deactivate_after
FROM task_state JOIN tasks ON id = task_id
WHERE CAST(:task_ids AS uuid[]) IS NULL OR task_id = ANY (CAST(:task_ids AS uuid[]))
""")


@dataclass(frozen=True, slots=True)
class Due:
    """Slots that must be accounted for: `first` and those after it, up to `until` or the task's next run."""

    timing: Timing
    first: datetime
    until: datetime | None = None

    def slots(self, end: datetime) -> list[datetime]:
        """The slots before `end`."""
        return slots_between(self.timing, self.first, end)


@cache
def slots_between(timing: Timing, first: datetime, end: datetime) -> list[datetime]:
    """`first` and the slots after it, before `end`."""
    found = [first] if first < end else []
    found += takewhile(end.__gt__, slots(timing, first))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known at one moment; `rows` are of slots and of manual runs."""

    rows: Sequence[Any]
    states: Mapping[UUID, Any]
    ticks: Sequence[Any]
    calls: Sequence[Call]

    @property
    def slots(self) -> list[Any]:
        return [row for row in self.rows if row.source == "schedule"]

    @property
    def attempts(self) -> dict[UUID, list[dict[str, Any]]]:
        return {row.id: row.attempts for row in self.rows}


def gather(engine: Engine, calls: Sequence[Call], task_ids: Sequence[UUID] | None = None) -> Evidence:
    """Of all tasks, or of some."""
    some = {"task_ids": None if task_ids is None else list(task_ids)}
    with engine.connect() as connection:
        return Evidence(
            rows=connection.execute(READ_ROWS, some).all(),
            states={state.task_id: state for state in connection.execute(READ_STATES, some)},
            ticks=connection.execute(text("SELECT * FROM ticks ORDER BY id")).all(),
            calls=calls,
        )


def assert_invariants(
    evidence: Evidence,
    due: Mapping[UUID, Sequence[Due]],
    summaries: Sequence[TickSummary],
    held: Sequence[str],
    *,
    has_recovered: bool,
    may_repeat: bool,
    may_repeat_retries: bool = False,
) -> None:
    """Before the recovery only what must hold at any moment.

    `may_repeat`: a tick may have died after a call; `may_repeat_retries`: after one that was not the first of its run.
    """
    deleted = due.keys() - evidence.states.keys()
    faults = [
        *one_run_per_slot(evidence),
        *recorded_calls(evidence, deleted, may_repeat=may_repeat, may_repeat_retries=may_repeat_retries),
        *(f"I4: {sentence}" for sentence in held),
        *(fault for row in evidence.rows for fault in agreeing_row(row)),
        *added_up(evidence, summaries),
    ]
    if has_recovered:
        faults += [*accounted_slots(evidence, due), *agreeing_states(evidence)]
    assert not faults, report(faults, evidence)


def one_run_per_slot(evidence: Evidence) -> Iterator[str]:
    for (task_id, slot), count in Counter((row.task_id, row.scheduled_for) for row in evidence.slots).items():
        if count > 1:
            yield f"I1: {count} rows for the slot {slot} of task {task_id}"


def accounted_slots(evidence: Evidence, due: Mapping[UUID, Sequence[Due]]) -> Iterator[str]:
    """I2: the slots that were due, and no others, each in exactly one row; and every run has ended."""
    accounted: dict[UUID, Counter[datetime]] = defaultdict(Counter)
    for row in evidence.rows:
        if row.status in LIVE:
            yield f"I2: run {row.id} of task {row.task_id} is still {row.status}"
        if row.task_id not in evidence.states:
            yield f"I2: run {row.id} of the deleted task {row.task_id} is still there"
    for row in evidence.slots:
        stretch = [row.scheduled_for]
        if row.missed_count is not None:
            timing = due[row.task_id][0].timing
            stretch = Due(timing, row.missed_from).slots(row.missed_to + INSTANT)
            if (len(stretch), stretch[-1]) != (row.missed_count, row.missed_to):
                yield f"I2: the stretch {row.id} says {row.missed_count} slots, and has {len(stretch)}"
        accounted[row.task_id].update(stretch)
    for task_id, state in evidence.states.items():
        expected: Counter[datetime] = Counter()
        for one in due.get(task_id, ()):
            expected.update(one.slots(end_of(one, state)))
        for slot in (expected - accounted[task_id]).elements():
            yield f"I2: the slot {slot} of task {task_id} stands in no row"
        for slot in (accounted[task_id] - expected).elements():
            yield f"I2: the slot {slot} of task {task_id} stands in a row too many"


def end_of(due: Due, state: Any) -> datetime:
    ends = [due.until, state.next_run_at, state.deactivated_at and state.deactivated_at + INSTANT]
    return next((end for end in ends if end is not None), due.first + INSTANT)


def recorded_calls(
    evidence: Evidence, deleted: Collection[UUID], *, may_repeat: bool, may_repeat_retries: bool
) -> Iterator[str]:
    """I3: every call is one of a recorded attempt, none is of two; and a call after another has its reason."""
    attempts, received = evidence.attempts, Counter((call.run_id, call.attempt) for call in evidence.calls)
    for call in evidence.calls:
        if call.task_id in deleted:
            continue
        if call.run_id not in attempts:
            yield f"I3: the run {call.run_id} of task {call.task_id} was called and is not recorded"
        elif call.attempt > len(attempts[call.run_id]):
            recorded = len(attempts[call.run_id])
            yield f"I3: attempt {call.attempt} of run {call.run_id} was received, {recorded} are recorded"
    for (run_id, attempt), count in received.items():
        if count > 1:
            yield f"I3: attempt {attempt} of run {run_id} was received {count} times"
    for run_id, number in received:
        recorded_attempts = attempts.get(run_id, [])
        if not any((run_id, later) in received for later in range(number + 1, len(recorded_attempts) + 1)):
            continue
        outcome = recorded_attempts[number - 1].get("outcome")
        if outcome == "success":
            yield f"I3: run {run_id} was called again after the success of attempt {number}"
        elif outcome in (*LOST, None) and not (may_repeat or (may_repeat_retries and number > 1)):
            yield f"I3: run {run_id} was called again, and attempt {number} was {outcome}; no call may be repeated"


def agreeing_row(row: Any) -> Iterator[str]:
    """I5, within a run: counters, status and attempts."""
    run = f"I5: run {row.id} of task {row.task_id}"
    outcomes = [attempt.get("outcome") for attempt in row.attempts]
    if [attempt["number"] for attempt in row.attempts] != [*range(1, len(outcomes) + 1)]:
        yield f"{run} has attempts that are not numbered 1, 2, 3"
    if row.retry_count != max(len(outcomes) - 1, 0):
        yield f"{run} has {len(outcomes)} attempts and retry_count {row.retry_count}"
    if row.lost_leases != sum(outcome in LOST for outcome in outcomes):
        yield f"{run} has lost_leases {row.lost_leases}, and its attempts {outcomes}"
    if row.throttles != outcomes.count("throttled"):
        yield f"{run} has throttles {row.throttles}, and its attempts {outcomes}"
    if None in outcomes[:-1]:
        yield f"{run} has an earlier attempt without an outcome: {outcomes}"
    last = outcomes[-1] if outcomes else None
    if last not in LAST_OUTCOMES[row.status] or (last is None and outcomes and row.status != "running"):
        yield f"{run} is {row.status}, and its last attempt {last}"
    if row.status == "failed" and last in LOST and row.lost_leases < 3:
        yield f"{run} is failed after {row.lost_leases} lost leases"


def agreeing_states(evidence: Evidence) -> Iterator[str]:
    """I5, between a task and its runs: the failures in a row, and what follows from them."""
    rows: dict[UUID, list[Any]] = defaultdict(list)
    for row in evidence.slots:
        if row.status in ("success", "failed") and row.attempts[-1].get("outcome") not in LOST:
            rows[row.task_id].append(row)
    for task_id, state in evidence.states.items():
        ended = sorted(rows[task_id], key=lambda row: row.finished_at)
        failures = 0
        for row in ended:
            counts = row.revision == state.revision and row.http_status != 429
            failures = 0 if row.status == "success" else failures + counts
        if state.revision == 1 and state.consecutive_failures != failures:
            yield f"I5: task {task_id} counts {state.consecutive_failures} failures, and has {failures}"
        if ended and state.last_status not in {
            row.status for row in ended if row.finished_at == ended[-1].finished_at
        }:
            yield f"I5: task {task_id} has last_status {state.last_status}, and its last run is {ended[-1].status}"
        if state.status == "active" and 0 < state.deactivate_after <= state.consecutive_failures:
            yield f"I5: task {task_id} is active after {state.consecutive_failures} failures"
        if state.status == "active" and state.next_run_at is None:
            yield f"I5: task {task_id} is active and has no next run"


def added_up(evidence: Evidence, summaries: Iterable[TickSummary]) -> Iterator[str]:
    """I5, of ticks: what was started has come to one of its ends."""
    for summary in [
        *(asdict(summary) for summary in summaries),
        *(tick._asdict() for tick in evidence.ticks),
    ]:
        ends = ("succeeded", "failed", "retrying", "throttled", "cancelled", "late", "unsettled")
        if summary["started"] != sum(summary[end] for end in ends):
            yield f"I5: a tick does not add up: {summary}"


def report(faults: Sequence[str], evidence: Evidence) -> str:
    """The faults, and the history of the runs and tasks that they name."""
    lines = [*faults[:20], *([f"... and {len(faults) - 20} more"] if len(faults) > 20 else [])]
    for row in evidence.rows:
        if any(str(row.id) in line or str(row.task_id) in line for line in faults[:20]):
            calls = [
                f"{call.at:%M:%S.%f} attempt {call.attempt}"
                for call in evidence.calls
                if call.run_id == row.id
            ]
            lines += [f"run {row.id}: {row._asdict()}", f"    received: {', '.join(calls) or 'nothing'}"]
    for task_id, state in evidence.states.items():
        if any(str(task_id) in line for line in faults[:20]):
            lines.append(f"task {task_id}: {state._asdict()}")
    return "\n".join(lines)
