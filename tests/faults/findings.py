"""Every way in which the database and the receivers can contradict the model, invariants I1 to I5 among them.

Nothing here predicts what a tick does: of what is found, it says whether that may be so. What may not is a
sentence.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby, permutations
from typing import Any
from uuid import UUID

from tests.faults.model import Call, Row, State, Task

LIVE = ("running", "retrying")
FRESH = timedelta(seconds=120)
STEP = timedelta(seconds=20)
"""From one action to the next: what takes less real time than this cannot change what is expected."""

MAX_COUNTED = 10_000
MAX_LOST_LEASES = 3
MAX_RUN_ALL = 100


def look(task: Task, state: State, rows: Sequence[Row], calls: Sequence[Call]) -> Iterator[str]:
    """Compare what is found with the model and with what was found before, and remember it."""
    new_rows = [row for row in rows if row.id not in task.rows]
    yield from status_faults(task, state, rows)
    yield from slot_faults(task, state, rows)
    for row in rows:
        yield from (f"run {name(row)} {fault}" for fault in row_faults(row))
        yield from (f"run {name(row)} {fault}" for fault in call_faults(row, calls))
        yield from (f"run {name(row)} {fault}" for fault in attempt_faults(task, row))
    for row in new_rows:
        yield from (f"run {name(row)} {fault}" for fault in misfire_faults(task, row))
        yield from (f"run {name(row)} {fault}" for fault in overlap_faults(task, row, rows))
    yield from counter_faults(task, state, rows)
    task.rows = {row.id: row for row in rows}
    task.failures = state.consecutive_failures
    task.status = state.status
    task.was_active, task.was_changed = state.status == "active", False


def deleted_faults(task: Task, is_there: bool, rows: Sequence[Row], calls: Sequence[Call]) -> Iterator[str]:
    """A deleted task is gone, and not called again."""
    assert task.deleted_at
    if is_there or rows:
        yield f"is deleted, and still has {len(rows)} rows"
    later = [call for call in calls[task.calls_before :] if call.claimed_at > task.deleted_at.timestamp()]
    if later:
        yield f"is deleted, and was called {len(later)} times after that"


def summary_faults(
    summary: Mapping[str, Any],
    before: Mapping[UUID, Sequence[Row]],
    after: Mapping[UUID, Sequence[Row]],
    calls: int,
) -> Iterator[str]:
    """I5: what a tick says, when nobody interferes, is what the rows and the receivers say."""
    ends = ("succeeded", "failed", "retrying", "throttled", "cancelled", "late", "unsettled")
    if summary["started"] != sum(summary[end] for end in ends):
        yield "the summary does not add up (I5)"
    known = {row.id: row for rows in before.values() for row in rows}
    rows = [row for rows in after.values() for row in rows]
    changed = [row for row in rows if row.id not in known or known[row.id].status != row.status]
    counted = Counter(row.status for row in changed)
    begun = [
        attempt.get("outcome")
        for row in rows
        for attempt in row.attempts[len(known[row.id].attempts) if row.id in known else 0 :]
    ]
    ended_by_loss = sum(row.status == "failed" and row.last_outcome != "failed" for row in changed)
    found = {
        "succeeded": counted["success"],
        "failed": counted["failed"],
        "cancelled": counted["cancelled"],
        "skipped": counted["skipped"],
        "missed": sum(row.missed_count or 0 for row in changed if row.status == "missed"),
        "throttled": begun.count("throttled"),
        "retrying": begun.count("failed") - counted["failed"] + ended_by_loss,
        "late": 0,
        "unsettled": 0,
    }
    for end, count in found.items():
        if summary[end] != count:
            yield f"the summary says {end} {summary[end]}, the rows say {count} (I5)"
    if calls != len(begun):
        yield f"{calls} calls were received, {len(begun)} attempts begun (I3)"


def name(row: Row) -> str:
    return f"{row.scheduled_for:%d %H:%M}"


def status_faults(task: Task, state: State, rows: Sequence[Row]) -> Iterator[str]:
    """Only a user makes a task active; only failures and the end of its slots make it something else."""
    if state.status == task.status:
        return
    if task.status != "active":
        yield f"is {state.status}, and nobody did that"
    elif state.status == "inactive":
        if state.deactivated_at is None:
            yield "is inactive without a reason"
            return
        task.close_epoch(state.deactivated_at, max(row.missed_to or row.scheduled_for for row in rows))
    else:
        if any(row.status in LIVE for row in rows):
            yield "is completed with a run under way"
        end = task.definition.timetable.run_at or task.definition.timetable.end_at
        if end is None:
            yield "is completed, and has slots for ever"
        else:
            task.close_epoch(end, None)


def slot_faults(task: Task, state: State, rows: Iterable[Row]) -> Iterator[str]:
    """I1 and I2: each due slot stands in exactly one row or stretch, and nothing else does."""
    due = task.due_slots(state)
    accounted: Counter[datetime] = Counter()
    for row in rows:
        if row.missed_from and row.missed_to:
            stretch = due[bisect_left(due, row.missed_from) : bisect_right(due, row.missed_to)]
            accounted.update(stretch)
            if row.missed_count not in (len(stretch), MAX_COUNTED):
                yield f"stretch {name(row)} counts {row.missed_count} slots, there were {len(stretch)}"
        else:
            accounted[row.scheduled_for] += 1
    missing = [slot for slot in due if not accounted[slot]]
    if missing:
        yield f"{len(missing)} due slots stand in no row, the first is {missing[0]:%d %H:%M:%S}"
    for slot, count in sorted(accounted.items()):
        if count > 1:
            yield f"slot {slot:%d %H:%M:%S} stands in {count} rows"
        elif slot not in due:
            yield f"slot {slot:%d %H:%M:%S} has a row and was never due"
    if state.next_run_at and task.epochs:
        epoch = task.epochs[-1]
        if state.next_run_at not in epoch.timetable.slots(epoch.after, state.next_run_at):
            yield f"has its next run at {state.next_run_at:%d %H:%M:%S}, which is no slot"


def row_faults(row: Row) -> Iterator[str]:
    """I5 within a row: its status, its attempts and its count of retries say the same."""
    outcomes = [attempt.get("outcome") for attempt in row.attempts]
    if [attempt["number"] for attempt in row.attempts] != list(range(1, len(outcomes) + 1)):
        yield "has attempts that are not numbered 1, 2, 3"
    if row.retry_count != max(len(outcomes) - 1, 0):
        yield f"has {len(outcomes)} attempts and retry_count {row.retry_count}"
    if None in outcomes[:-1] or (row.last_outcome is None and outcomes and row.status != "running"):
        yield "has an attempt without an outcome that is not under way"
    allowed: dict[str, tuple[str | None, ...]] = {
        "running": (None,),
        "retrying": ("failed", "throttled", "unknown", None),
        "success": ("success",),
        "failed": ("failed", "unknown", "late"),
        "cancelled": ("failed", "throttled", "unknown", "late", None),
        "missed": (None,),
        "skipped": (None,),
    }
    if row.last_outcome not in allowed[row.status]:
        yield f"is {row.status}, and its last attempt {row.last_outcome}"
    if outcomes and row.status in ("missed", "skipped"):
        yield f"is {row.status} and has attempts"
    if not outcomes and row.status in ("running", "success", "failed"):
        yield f"is {row.status} without an attempt"


def call_faults(row: Row, calls: Sequence[Call]) -> Iterator[str]:
    """I3: no call without its attempt, none twice; and each attempt says what the receiver says."""
    received = Counter(call.attempt for call in calls if call.run_id == row.id)
    answers = {call.attempt: call.status for call in calls if call.run_id == row.id}
    for number, count in received.items():
        if number > len(row.attempts):
            yield f"was called for attempt {number}, and has recorded {len(row.attempts)}"
        if count > 1:
            yield f"was called {count} times for attempt {number}"
    for attempt in row.attempts:
        number, outcome = attempt["number"], attempt.get("outcome")
        if outcome not in ("success", "failed", "throttled", "late"):
            continue
        if number not in answers:
            yield f"says {outcome} of attempt {number}, which nobody received"
        elif attempt.get("http_status") != answers[number] and attempt.get("error") != "timeout":
            yield f"says {attempt.get('http_status')} of attempt {number}, which got {answers[number]}"
        elif outcome == "success" and answers[number] != 200:
            yield f"calls attempt {number} a success, which got {answers[number]}"


def attempt_faults(task: Task, row: Row) -> Iterator[str]:
    """Only an active task is called, no retry comes early, and there are no more than the user wants."""
    before = task.rows[row.id].attempts if row.id in task.rows else []
    if len(row.attempts) > len(before) and not task.was_active:
        yield f"has a new attempt, and its task was {task.status}"
    for earlier, later in zip(row.attempts, row.attempts[1:], strict=False):
        if earlier.get("retry_at") and instant(later["started_at"]) < instant(earlier["retry_at"]):
            yield f"was tried at {later['started_at']}, before {earlier['retry_at']}"
    outcomes = Counter(attempt.get("outcome") for attempt in row.attempts)
    if outcomes["failed"] > 1 + max(one.max_retry for one in task.definitions.values()):
        yield f"failed {outcomes['failed']} times"
    lost = outcomes["unknown"] + outcomes["late"]
    if lost > MAX_LOST_LEASES or (lost == MAX_LOST_LEASES and row.status in LIVE):
        yield f"lost its lease {lost} times and is {row.status}"
    if row.status == "failed" and row.last_outcome != "failed" and lost < MAX_LOST_LEASES:
        yield f"failed after {lost} lost leases"


def misfire_faults(task: Task, row: Row) -> Iterator[str]:
    """A slot is late by the time of its claim; the policy of that time says what becomes of it."""
    definition, late = task.definitions[row.revision], row.created_at - FRESH
    window_from = row.created_at - timedelta(seconds=definition.catchup_window_seconds)
    slots = definition.timetable.slots(row.scheduled_for, row.created_at)
    if row.attempts and row.scheduled_for < late - STEP:
        if definition.misfire_policy == "skip":
            yield f"was called {row.created_at - row.scheduled_for} late, with the policy skip"
        if row.scheduled_for < window_from - STEP:
            yield "was called, and is older than the catch-up window"
        if definition.misfire_policy == "run_once" and slots:
            yield f"was called late, with the policy run_once, and {len(slots)} slots came later"
    if row.status == "missed" and row.missed_to is not None:
        if row.missed_to > late + STEP:
            yield "is missed, and was not late"
        later = [slot for slot in slots if slot > row.missed_to]
        if row.missed_to > window_from + STEP and (
            (definition.misfire_policy == "run_once" and not later)
            or (definition.misfire_policy == "run_all" and len(later) < MAX_RUN_ALL)
        ):
            yield f"is missed, with the policy {definition.misfire_policy}"


def overlap_faults(task: Task, row: Row, rows: Iterable[Row]) -> Iterator[str]:
    """`skip`: no slot runs beside a run that began before it, and none is skipped without one."""
    definition = task.definitions[row.revision]
    lived = [one for one in rows if one.id in task.rows and task.rows[one.id].status in LIVE]
    throughout = [one for one in lived if one.status in LIVE and one.execution_time < row.scheduled_for]
    if row.attempts and definition.overlap_policy == "skip" and throughout:
        yield f"began while {name(throughout[0])} was under way"
    if row.status == "skipped":
        began = [one for one in rows if one.id not in task.rows and one.attempts]
        if definition.overlap_policy != "skip" or not any(
            one.execution_time < row.scheduled_for for one in lived + began
        ):
            yield "was skipped, and no earlier run was under way"


def counter_faults(task: Task, state: State, rows: Iterable[Row]) -> Iterator[str]:
    """I5: failures in a row are counted, a success ends the row, and the task ends when they are too many."""
    if task.was_changed:
        return
    ended = [row for row in rows if row.status in ("success", "failed") and row.finished_at]
    new = [row for row in ended if row.id not in task.rows or task.rows[row.id].status in LIVE]
    expected = {(task.failures, False)}
    limit = task.definition.deactivate_after
    new.sort(key=lambda row: str(row.finished_at))
    for _, group in groupby(new, key=lambda row: row.finished_at):
        together = list(group)[:4]
        expected = {
            result
            for count, is_off in expected
            for order in permutations(together)
            for result in folded(order, count, is_off, limit, state.revision)
        }
    if state.status == "completed":  # there is nothing left to deactivate
        expected |= {(count, False) for count, _ in expected}
    is_off = task.was_active and state.status == "inactive"
    found = (state.consecutive_failures, is_off)
    if found not in expected:
        wanted = " or ".join(f"{count}{' and deactivated' if off else ''}" for count, off in sorted(expected))
        yield f"counts {found[0]} failures{' and is deactivated' if is_off else ''}; expected {wanted}"


def folded(rows: Iterable[Row], count: int, is_off: bool, limit: int, revision: int) -> set[tuple[int, bool]]:
    """Counts after rows that ended together: the engine may look at each of them, or only at the last count."""
    is_over = was_over = is_off
    for row in rows:
        is_over = is_off
        if row.status == "success":
            count = 0
        elif row.revision == revision and row.last_outcome == "failed" and row.http_status != 429:
            count += 1
            is_over = 0 < limit <= count or row.http_status == 410
        was_over = was_over or is_over
    return {(count, is_over), (count, was_over)}


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
