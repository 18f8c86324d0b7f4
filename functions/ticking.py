"""The story of a tick: claim -> deliver -> decide -> settle -> summarise (docs/engine.md, Tick).

PostgreSQL is the only truth: a tick that dies leaves leases that end, and the next one takes over. No
transaction waits for a call, and any number of ticks may run at once.
"""

import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from socket import socket
from typing import TypeVar

from db.backlog import Backlog, read_backlog, sweep
from db.claiming import BATCH_ROWS, Claimed
from db.driver import waiting_by
from db.engine import Connection, Engine, transaction
from db.run_claims import release
from db.settle import Disposal, Refused, Settlement, end_unrecordable, settle, settle_in_turn
from db.ticks import read_clock, record_tick
from domain.attempt import Attempt, unsendable
from domain.errors import InvalidInput, Unavailable
from domain.run import ClaimedRun, Decision, decide
from domain.summary import TickKind, TickSummary
from functions import telemetry
from functions.chores import Chores
from functions.claiming import Claiming
from functions.delivery import FROZEN_SECONDS, Deliveries
from functions.egress import Egress
from functions.events import log_deactivations, log_deliveries
from functions.held import HeldRuns
from functions.housekeeping import clean_up
from functions.limits import LEAST_CALL_SECONDS, SPARE_SECONDS, STOP_SECONDS, Limits
from functions.lookout import BATCH_SECONDS, PAUSE_SECONDS, Lookout
from functions.notifications import Notifier, NotifySettings, Tell, tell_nobody
from functions.tally import count_end
from functions.transfer import Call, monotonic
from functions.webhook import call_of

CHORE_ROWS = 64

Row = TypeVar("Row")

log = logging.getLogger(__name__)


def run_tick(
    engine: Engine,
    egress: Egress,
    limits: Limits,
    *,
    kind: TickKind = TickKind.TICK,
    notify: NotifySettings | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> TickSummary:
    """Deliver and record what is due; returns within the budget.

    Raises Unavailable when the database failed or a result could not be recorded. Nothing is lost then: the
    leases end, and a later tick goes on.
    """
    ends_at = monotonic() + limits.budget_seconds
    notifier = Notifier(engine, egress, notify or NotifySettings(), ends_at=ends_at, is_stopping=is_stopping)
    with (
        Deliveries(egress) as deliveries,
        notifier,
        Chores() as chores,
        waiting_by(partial(go_on_until_readable, chores, deliveries)),
    ):
        # more instances make a rate allow no more
        waits_for_rates = kind is TickKind.TICK
        tick = Tick(
            engine, deliveries, chores, limits, is_stopping, notifier.tell, waits_for_rates=waits_for_rates
        )
        if tick.begin().are_notifications_due:
            notifier.look()
        if kind is TickKind.TICK:
            notifier.tell_of_late_tick()
        while tick.goes_on():
            for step in (tick.claim, tick.deliver, tick.settle):
                with telemetry.phase(step.__name__):
                    step()
            notifier.go_on()
        summary = tick.summarise(kind)
        notifier.finish()
        return summary


def go_on_until_readable(chores: Chores, deliveries: Deliveries, answer: socket) -> None:
    """What a tick does while the database works. Raises TimeoutError."""
    chores.do_until_readable(answer)
    deliveries.go_on_until_readable(answer)


def in_pieces(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    return (rows[first : first + CHORE_ROWS] for first in range(0, len(rows), CHORE_ROWS))


class Tick:
    """What one tick has claimed, is delivering and has still to settle. Times are of the monotonic clock."""

    def __init__(
        self,
        engine: Engine,
        deliveries: Deliveries,
        chores: Chores,
        limits: Limits,
        is_stopping: Callable[[], bool],
        tell: Tell = tell_nobody,
        *,
        waits_for_rates: bool = True,
    ) -> None:
        self._engine = engine
        self._deliveries = deliveries
        self._chores = chores
        self._limits = limits
        self._is_stopping = is_stopping
        self._tell = tell
        self._began_at = monotonic()
        self._ends_at = self._began_at + limits.budget_seconds
        self._stops_at = math.inf
        self._lookout = Lookout(self._began_at, waits_for_rates=waits_for_rates)
        self._settles_at = math.inf
        self._claims_again_at = -math.inf
        self._held = HeldRuns()
        self._claiming = Claiming(
            engine,
            limits,
            self._lookout,
            self._held,
            ends_at=self._ends_at,
            prepare=self._prepare,
            start=self._start,
            tell=tell,
        )
        self._calls: dict[str, Call] = {}
        """Of the runs that are just being claimed."""
        self._is_settle_failing = False
        self._fault: Unavailable | None = None
        self._summary = TickSummary()

    def attempt(self, begin: Callable[[Connection], Claimed]) -> None:
        """Make one attempt of the run that `begin` claims, and record it; a retry is left to later ticks."""
        self._lookout.never()
        self._claiming.claim(lambda connection, _: begin(connection), 1)
        while self.has_runs():
            self.deliver()
            self.settle()

    def begin(self) -> Backlog:
        """End what must not be attempted again, and look at what is due."""
        with transaction(self._engine) as connection:
            self._started_at = read_clock(connection)
            swept = sweep(connection)
            self._tell(connection, swept.changes)
            backlog = read_backlog(connection)
        summary = self._summary
        summary.due, summary.lag_seconds = backlog.due, backlog.lag_seconds
        summary.started, summary.failed, summary.cancelled = (
            swept.failed + swept.cancelled,
            swept.failed,
            swept.cancelled,
        )
        return backlog

    def goes_on(self) -> bool:
        """Whether a call is in flight, a result unrecorded, a place free, or a retry due within the budget."""
        if self.has_runs():
            return True
        if not self._may_claim():
            return False
        return self._claiming.places() > 0 or self._lookout.retries_at + LEAST_CALL_SECONDS <= self._ends_at

    def has_runs(self) -> bool:
        """Whether a call is in flight, or a result unrecorded that there still is time to record."""
        if self._deliveries.in_flight:
            return True
        return self._held.unrecorded > 0 and monotonic() < self._ends_at

    def claim(self) -> None:
        """Take up retries and slots; while both wait, each gets half of the free places."""
        if not self._may_claim():
            return
        try:
            self._claiming.take(self._free())
        except Unavailable as error:
            self._fault = error
            self._lookout.after_fault(monotonic())

    def deliver(self) -> None:
        """Drive the calls until some have finished or there is something else to do; decide on each result."""
        self._chores.do_all()
        if not self.goes_on():
            return
        claims_at = self._lookout.claims_at if self._may_claim() and self._free() else math.inf
        until = min(self._settles_at, self._stops_at, claims_at)
        pause = min(max(until - monotonic(), 0), PAUSE_SECONDS)
        if not self._deliveries.in_flight:
            time.sleep(pause)
        while all_finished := self._deliveries.wait(pause):
            pause = 0
            for finished in all_finished:
                run = self._held.end(finished.call.id)
                if finished.attempt is None:
                    self._held.unsent.append(run)
                    self._rest()
                else:
                    self._decide(run, finished.attempt)
        if monotonic() >= self._stops_at:
            self._abandon()

    def settle(self) -> None:
        """Record the results: 256 at once, or those there are after 50 ms."""
        while monotonic() >= self._settles_at or (
            len(self._held.decisions) >= BATCH_ROWS and not self._is_settle_failing
        ):
            batch = self._held.decisions[:BATCH_ROWS]
            try:
                settlement = self._record(batch)
            except Unavailable as error:
                self._fault, self._is_settle_failing = error, True
                self._settles_at = monotonic() + PAUSE_SECONDS
                return
            self._is_settle_failing = False
            self._count(batch, settlement)
            deferred = [one for one in batch if settlement.disposals[one.run.id] is Disposal.DEFERRED]
            self._held.put_off(BATCH_ROWS, deferred)
            self._settles_at = monotonic() + BATCH_SECONDS if self._held.decisions else math.inf
            was_last_chance = any(one.run.is_last_chance for one in batch)
            self._lookout.after_settle(monotonic(), was_last_chance=was_last_chance)
            if deferred:
                break
        if self._held.unsent or self._held.unanswered:
            self._give_back()

    def _record(self, decisions: Sequence[Decision]) -> Settlement:
        """Write results and what is told of them, in one transaction.

        What the database refuses for its data is written in halves, each in a transaction of its own, down to the bad
        result, which ends its run as our error. When that breaks off, all of it may be repeated.
        """
        try:
            with transaction(self._engine) as connection:
                settlement = settle(connection, decisions)
                self._tell(connection, settlement.changes)
        except Refused as refused:
            if len(decisions) > 1:
                half = len(decisions) // 2
                return settle_in_turn(self._record, [decisions[:half], decisions[half:]])
            with transaction(self._engine) as connection:
                settlement = end_unrecordable(connection, decisions[0], refused)
                self._tell(connection, settlement.changes)
        return settlement

    def summarise(self, kind: TickKind) -> TickSummary:
        """The summary, recorded as a row of `ticks`; a tick cleans up in the time that is left."""
        self._summary.unsettled = self._held.unrecorded
        if self._summary.unsettled and self._fault is None:
            self._fault = Unavailable("Results could not be recorded: their tasks stayed locked; try again.")
        with transaction(self._engine) as connection:
            self._summary.remaining = read_backlog(connection).due
            self._summary.duration_seconds = round(monotonic() - self._began_at, 3)
            record_tick(connection, self._summary, self._started_at, kind)
        if kind is TickKind.TICK:
            retention = self._limits.retention
            clean_up(self._engine, retention, ends_at=self._ends_at, is_stopping=self._is_stopping)
        if self._fault is not None:
            raise self._fault
        return self._summary

    def _free(self) -> int:
        if monotonic() < self._claims_again_at:
            return 0
        return self._limits.concurrency - self._deliveries.in_flight

    def _rest(self) -> None:
        """Claim nothing for a while: what could not be sent is due at once, and could not be sent now either."""
        if self._claims_again_at == -math.inf:
            log.warning(
                "calls wait: this process was frozen, or has no file descriptor left (DELIVERY_CONCURRENCY)"
            )
        self._claims_again_at = monotonic() + PAUSE_SECONDS

    def _may_claim(self) -> bool:
        if self._is_stopping():
            self._stops_at = min(self._stops_at, monotonic() + STOP_SECONDS)
            return False
        return not self._is_settle_failing and monotonic() + LEAST_CALL_SECONDS <= self._ends_at

    def _prepare(self, claimed: Claimed) -> None:
        """Make the calls of a claim while it is being committed."""
        self._calls.clear()
        for some in in_pieces(claimed.runs):
            self._chores.put_off(partial(self._make_calls, some))

    def _make_calls(self, runs: Sequence[ClaimedRun]) -> None:
        for run in runs:
            with suppress(InvalidInput):  # which is told when it would be sent
                self._calls[run.id] = call_of(run)

    def _start(self, claimed: Claimed, began_at: float) -> None:
        self._chores.do_all()
        summary = self._summary
        summary.missed += claimed.missed
        summary.skipped += claimed.skipped
        summary.deactivated += claimed.deactivated
        summary.cancelled += claimed.deactivated
        summary.started += len(claimed.runs) + claimed.deactivated
        log_deactivations(claimed.changes)
        for number, run in enumerate(claimed.runs):
            if monotonic() - began_at > FROZEN_SECONDS:
                self._held.unsent += claimed.runs[number:]
                return
            try:
                call = self._calls.pop(run.id, None) or call_of(run)
            except InvalidInput as error:
                self._decide(run, unsendable(str(error)))
                continue
            self._held.begin(run)
            self._deliveries.start(call)

    def _decide(self, run: ClaimedRun, attempt: Attempt) -> None:
        if not self._held.decisions:
            self._settles_at = min(self._settles_at, monotonic() + BATCH_SECONDS)
        decision = decide(run, attempt, random.random())
        if decision.throttle_seconds:  # before the next claim, which must leave the destination alone
            self._settles_at = min(self._settles_at, monotonic())
        self._held.decisions.append(decision)

    def _expect_retry(self, decision: Decision) -> None:
        retry_at = monotonic() + (decision.delay_seconds or 0)
        if retry_at + decision.run.timeout_seconds + SPARE_SECONDS <= self._ends_at:
            self._lookout.expect_retry(retry_at)

    def _give_back(self) -> None:
        """Release what was claimed before this process was frozen, or is left when it must end: it is due at once."""
        try:
            with transaction(self._engine) as connection:
                release(connection, self._held.unsent, were_sent=False)
                release(connection, self._held.unanswered, were_sent=True)
        except Unavailable as error:
            self._fault = error
            return
        self._summary.started -= len(self._held.unsent)
        self._summary.retrying += len(self._held.unanswered)
        self._held.unsent.clear()
        self._held.unanswered.clear()
        self._lookout.at_once(monotonic())

    def _abandon(self) -> None:
        """The process must end: what has no answer by now is given back, its attempt `unknown` if it was sent."""
        self._held.abandon(self._deliveries.abandon())
        self._stops_at = math.inf

    def _count(self, batch: list[Decision], settlement: Settlement) -> None:
        summary = self._summary
        summary.deactivated += settlement.deactivated
        summary.started += settlement.cancelled
        summary.cancelled += settlement.cancelled
        disposed = [(decision, settlement.disposals[decision.run.id]) for decision in batch]
        settled = [one for one in disposed if one[1] is not Disposal.DEFERRED]
        for decision, disposal in settled:
            count_end(summary, decision, disposal)
            if disposal is Disposal.RETRYING:
                self._expect_retry(decision)
        for some in in_pieces(settled):
            self._chores.put_off(partial(log_deliveries, some))
        self._chores.put_off(partial(log_deactivations, settlement.changes))
