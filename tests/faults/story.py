"""What happened in an example, for people: a few lines per task that went wrong."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from tests.faults.model import Call, Row, State, Task

LINES = 30


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was done, to one task or (None) to all."""

    at: datetime
    task: int | None
    text: str


@dataclass(slots=True)
class Story:
    steps: list[Step] = field(default_factory=list)

    def tell(self, at: datetime, text: str, task: Task | None = None) -> None:
        self.steps.append(Step(at, task.number if task else None, text))

    def of(self, task: Task, state: State | None, rows: Iterable[Row], calls: Iterable[Call]) -> str:
        """The definition of a task, what was done to it, the calls and the rows; the last lines of each."""
        told = [f"  {one.at:%d %H:%M:%S} {one.text}" for one in self.steps if one.task in (None, task.number)]
        lines = [f"task {task.number}: {task.definition}", *shortened(told)]
        if state is None:
            lines.append(f"  deleted at {task.deleted_at:%d %H:%M:%S}")
        else:
            following = f"{state.next_run_at:%d %H:%M:%S}" if state.next_run_at else "none"
            lines.append(
                f"  is {state.status}, next run {following}, {state.consecutive_failures} failures in a row, "
                f"revision {state.revision}"
            )
        received = [f"{str(call.run_id)[:4]} #{call.attempt}={call.status or 'no answer'}" for call in calls]
        lines.append("  calls: " + (", ".join(received[-LINES:]) or "none"))
        return "\n".join([*lines, *shortened([f"  row {told_row(row)}" for row in rows])])


def shortened(lines: list[str]) -> list[str]:
    return lines if len(lines) <= LINES else ["  ...", *lines[-LINES:]]


def told_row(row: Row) -> str:
    text = f"{str(row.id)[:4]} {row.scheduled_for:%d %H:%M:%S}"
    if row.missed_to:
        text += f" to {row.missed_to:%d %H:%M:%S} ({row.missed_count})"
    text += f" {row.status}, claimed {row.created_at:%d %H:%M:%S}"
    attempts = [
        f"{attempt['started_at'][8:19].replace('T', ' ')} {attempt.get('outcome') or 'under way'}"
        for attempt in row.attempts
    ]
    return f"{text}: {', '.join(attempts)}" if attempts else text
