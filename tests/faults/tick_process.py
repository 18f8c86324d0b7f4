"""A tick in a process of its own, and what is to befall it there; tick_child.py is what runs in that process."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

from db.child_process import wait_until
from domain.summary import TickKind, TickSummary
from functions.limits import Limits
from tests.faults.processes import PROCESSES


class Fault(StrEnum):
    """`cut`: its connections to the database end, and it goes on."""

    KILL = "kill"
    FREEZE = "freeze"
    CUT = "cut"


class Point(StrEnum):
    """Where; the fault points at the end of docs/engine.md."""

    IN_THE_SWEEP = "in the sweep"
    RETRY_LOCKED = "retry locked"
    RETRY_CLAIMED = "retry claimed"
    RETRY_COMMITTED = "retry committed"
    CLAIM_LOCKED = "claim locked"
    CLAIM_WRITTEN = "claim written"
    CLAIM_ACKNOWLEDGEMENT_LOST = "claim acknowledgement lost"
    CLAIM_COMMITTED = "claim committed"
    BEFORE_SEND = "before send"
    PARTLY_SENT = "partly sent"
    SENT = "sent"
    ANSWER_READ = "answer read"
    BEFORE_SETTLE = "before settle"
    BEFORE_CANCELLING = "before cancelling"
    SETTLE_WRITTEN = "settle written"
    SETTLE_ACKNOWLEDGEMENT_LOST = "settle acknowledgement lost"
    SETTLE_COMMITTED = "settle committed"
    IN_THE_WAIT = "in the wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manual:
    """A request for a manual run: of a task, or in place of a log; with an Idempotency-Key if it has one."""

    task_id: UUID | None = None
    log_id: UUID | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What the process is told; with a `task_id` only the calls of that task count for a point of calls.

    With `manual` it makes that run, and no tick; the points of a claim are those of its beginning then.
    """

    database_url: str
    report: Path
    limits: Limits
    kind: TickKind = TickKind.TICK
    point: Point | None = None
    fault: Fault = Fault.KILL
    task_id: UUID | None = None
    clock_ahead_seconds: float = 0
    manual: Manual | None = None


class TickProcess:
    """The tick as its parent sees it."""

    def __init__(self, orders: Orders) -> None:
        from tests.faults.tick_child import perform

        self._orders = orders
        orders.report.touch()
        self._process = PROCESSES.Process(target=perform, args=(orders,))
        self._process.start()
        self.pid = self._process.pid or 0

    def told(self, kind: str) -> list[Any]:
        """What the child has reported of this kind."""
        lines = [json.loads(line) for line in self._orders.report.read_text().splitlines()]
        return [value for name, value in lines if name == kind]

    @property
    def summary(self) -> TickSummary | None:
        """None when it was killed, when it was Unavailable, and when it was no tick."""
        summaries = self.told("returned")
        return TickSummary(**summaries[0]) if summaries else None

    def wait(self, seconds: float = 60) -> int:
        """Until the process has ended; its exit code, negative for a signal."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"the tick has not ended within {seconds} s"
        return self._process.exitcode

    def wait_until_killed(self) -> None:
        assert self.wait() == -signal.SIGKILL, f"the tick ended by itself: {self.told('crashed')}"
        self._assert_reached()

    def wait_until_frozen(self, seconds: float = 20) -> None:
        wait_until(lambda: state_of(self.pid).startswith(("T", "Z")) or not self._process.is_alive(), seconds)
        self._assert_reached()
        assert state_of(self.pid).startswith("T")

    def wait_until_returned(self) -> TickSummary | None:
        """The summary; None when it ended as Unavailable."""
        code = self.wait()
        assert code == 0, f"exit code {code}: {self.told('crashed')}"
        self._assert_reached()
        return self.summary

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def _assert_reached(self) -> None:
        point = self._orders.point
        assert point is None or self.told("reached"), f"the tick never came to the point '{point}'"


def state_of(pid: int) -> str:
    """As ps tells it: T for a stopped process."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()
