"""The story of a tick: claim -> deliver -> decide -> settle -> summarise (design/engine.md, Tick).

PostgreSQL is the only truth: a tick that dies leaves leases that end, and the next one takes over. No
transaction is open during a call, and any number of ticks may run at once.
"""

import logging
import math
import random
import time
from collections.abc import Callable
from uuid import UUID

from db.claims import claim_due_runs, claim_slots, read_backlog, seconds_until_next, sweep
from db.engine import Engine, transaction
from db.settle import Disposal, Settlement, settle
from db.ticks import delete_logs_of_deleted_tasks, read_clock, record_tick
from domain.attempt import Attempt, unsendable
from domain.errors import InvalidInput, Unavailable
from domain.run import ClaimedRun, Decision, decide
from domain.summary import TickSummary
from domain.task import TIMEOUT_SECONDS
from domain.webhook_url import parse_webhook_url, redacted
from functions import VERSION, bootstrap, schemas
from functions.delivery import Call, Deliveries, monotonic
from functions.routing import Routes

BATCH_ROWS = 64
BATCH_SECONDS = 0.05
PAUSE_SECONDS = 0.5
CALL_SECONDS = TIMEOUT_SECONDS + 2
"""What must be left of the budget for a call to be claimed."""

HOUSEKEEPING_SECONDS = 1.0
LOGS_REMOVED_AT_ONCE = 1_000

log = logging.getLogger(__name__)
routes = Routes("Tick")


@routes.add("POST", "/tick")
def tick() -> schemas.TickSummary:
    """Run what is due.

    Called every minute, by Cloud Scheduler or the local run; takes as long as the deliveries take, at most
    TICK_BUDGET_SECONDS. Calling it more often, or twice at once, does no harm. 503 when the database failed.
    """
    settings = bootstrap.settings()
    summary = run_tick(
        bootstrap.tick_database(),
        budget_seconds=settings.tick_budget_seconds,
        concurrency=settings.delivery_concurrency,
        is_stopping=bootstrap.is_stopping,
    )
    return schemas.TickSummary.model_validate(summary)


def run_tick(
    engine: Engine,
    *,
    budget_seconds: float,
    concurrency: int,
    is_stopping: Callable[[], bool] = lambda: False,
) -> TickSummary:
    """Deliver and record what is due; returns within `budget_seconds`, with at most `concurrency` calls at once.

    Raises Unavailable when the database failed or a result could not be recorded. Nothing is lost then: the
    leases end, and a later tick goes on.
    """
    with Deliveries() as deliveries:
        tick = Tick(engine, deliveries, budget_seconds, concurrency, is_stopping)
        tick.begin()
        while tick.goes_on():
            tick.claim()
            tick.deliver()
            tick.settle()
        return tick.summarise()


class Tick:
    """What one tick has claimed, is delivering and has still to settle. Times are of the monotonic clock."""

    def __init__(
        self,
        engine: Engine,
        deliveries: Deliveries,
        budget_seconds: float,
        concurrency: int,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._deliveries = deliveries
        self._concurrency = concurrency
        self._is_stopping = is_stopping
        self._began_at = monotonic()
        self._ends_at = self._began_at + budget_seconds
        self._claims_at = self._began_at
        self._retries_at = self._began_at
        self._settles_at = math.inf
        self._runs: dict[UUID, ClaimedRun] = {}
        self._decisions: list[Decision] = []
        self._is_settle_failing = False
        self._fault: Unavailable | None = None
        self._summary = TickSummary()

    def begin(self) -> None:
        """End what must not be attempted again, and look at what is due."""
        with transaction(self._engine) as connection:
            self._started_at = read_clock(connection)
            failed, cancelled = sweep(connection)
            backlog = read_backlog(connection)
        summary = self._summary
        summary.due, summary.lag_seconds = backlog.due, backlog.lag_seconds
        summary.started, summary.failed, summary.cancelled = failed + cancelled, failed, cancelled

    def goes_on(self) -> bool:
        """Whether a call is in flight, a result unrecorded, or a retry due within the budget."""
        if self._deliveries.in_flight:
            return True
        if self._decisions:
            return monotonic() < self._ends_at
        return self._may_claim() and self._retries_at + CALL_SECONDS <= self._ends_at

    def claim(self) -> None:
        """Take up retries and slots; while both wait, each gets half of the free places."""
        free = min(self._concurrency - self._deliveries.in_flight, BATCH_ROWS)
        if not free or monotonic() < self._claims_at or not self._may_claim():
            return
        try:
            runs = self._claim_due_runs(math.ceil(free / 2))
            runs += self._claim_slots(free - len(runs))
            if len(runs) < free:
                runs += self._claim_due_runs(free - len(runs))
            self._plan_next_claim(is_more_due=len(runs) == free)
        except Unavailable as error:
            self._fault = error
            self._claims_at = self._retries_at = monotonic() + PAUSE_SECONDS

    def deliver(self) -> None:
        """Drive the calls until some have finished or there is something else to do; decide on each result."""
        if not self.goes_on():
            return
        until = min(self._settles_at, self._claims_at if self._may_claim() else math.inf)
        pause = min(max(until - monotonic(), 0), PAUSE_SECONDS)
        if not self._deliveries.in_flight:
            time.sleep(pause)
        for finished in self._deliveries.wait(pause):
            self._decide(self._runs.pop(finished.call.id), finished.attempt)

    def settle(self) -> None:
        """Record the results: 64 at once, or those there are after 50 ms."""
        while len(self._decisions) >= BATCH_ROWS or monotonic() >= self._settles_at:
            batch = self._decisions[:BATCH_ROWS]
            try:
                with transaction(self._engine) as connection:
                    settlement = settle(connection, batch)
            except Unavailable as error:
                self._fault, self._is_settle_failing = error, True
                self._settles_at = monotonic() + PAUSE_SECONDS
                return
            self._is_settle_failing = False
            self._count(batch, settlement)
            deferred = [one for one in batch if settlement.disposals[one.run.id] is Disposal.DEFERRED]
            self._decisions = self._decisions[BATCH_ROWS:] + deferred
            self._settles_at = monotonic() + BATCH_SECONDS if self._decisions else math.inf

    def summarise(self) -> TickSummary:
        """The summary, recorded as a row of `ticks`; the time that is left goes to removing deleted tasks' logs."""
        self._summary.unsettled = len(self._decisions)
        with transaction(self._engine) as connection:
            self._summary.remaining = read_backlog(connection).due
            self._summary.duration_seconds = round(monotonic() - self._began_at, 3)
            record_tick(connection, self._summary, self._started_at)
        is_more, until = True, min(self._ends_at, monotonic() + HOUSEKEEPING_SECONDS)
        while is_more and monotonic() < until:
            with transaction(self._engine) as connection:
                is_more = delete_logs_of_deleted_tasks(connection, LOGS_REMOVED_AT_ONCE)
        if self._fault is not None:
            raise self._fault
        return self._summary

    def _may_claim(self) -> bool:
        return (
            not self._is_settle_failing
            and not self._is_stopping()
            and monotonic() + CALL_SECONDS <= self._ends_at
        )

    def _claim_due_runs(self, limit: int) -> list[ClaimedRun]:
        with transaction(self._engine) as connection:
            runs = claim_due_runs(connection, limit)
        self._start(runs)
        return runs

    def _claim_slots(self, limit: int) -> list[ClaimedRun]:
        with transaction(self._engine) as connection:
            runs, deactivated = claim_slots(connection, limit)
        self._start(runs)
        self._summary.started += deactivated
        self._summary.cancelled += deactivated
        self._summary.deactivated += deactivated
        return runs

    def _start(self, runs: list[ClaimedRun]) -> None:
        self._summary.started += len(runs)
        for run in runs:
            try:
                call = call_of(run)
            except InvalidInput as error:
                self._decide(run, unsendable(str(error)))
                continue
            self._runs[run.id] = run
            self._deliveries.start(call)

    def _decide(self, run: ClaimedRun, attempt: Attempt) -> None:
        if not self._decisions:
            self._settles_at = monotonic() + BATCH_SECONDS
        self._decisions.append(decide(run, attempt, random.random()))

    def _plan_next_claim(self, *, is_more_due: bool) -> None:
        """Look again at once, or when the next slot or retry is due; never busier than every 50 ms."""
        now = monotonic()
        self._claims_at = self._retries_at = now
        if not is_more_due:
            with transaction(self._engine) as connection:
                slot_seconds, retry_seconds = seconds_until_next(connection)
            self._retries_at = now + max(retry_seconds, BATCH_SECONDS)
            self._claims_at = min(self._retries_at, now + max(slot_seconds, BATCH_SECONDS))

    def _count(self, batch: list[Decision], settlement: Settlement) -> None:
        summary = self._summary
        summary.deactivated += settlement.deactivated
        summary.started += settlement.cancelled
        summary.cancelled += settlement.cancelled
        for decision in batch:
            match settlement.disposals[decision.run.id]:
                case Disposal.SUCCESS:
                    summary.succeeded += 1
                case Disposal.FAILED:
                    summary.failed += 1
                case Disposal.RETRYING:
                    summary.retrying += 1
                    retry_at = monotonic() + (decision.delay_seconds or 0)
                    self._retries_at = min(self._retries_at, retry_at)
                    self._claims_at = min(self._claims_at, retry_at)
                case Disposal.CANCELLED | Disposal.GONE:
                    summary.cancelled += 1
                case Disposal.LATE:
                    summary.late += 1
                case Disposal.DEFERRED:
                    continue
            log_delivery(decision, settlement.disposals[decision.run.id])


def call_of(run: ClaimedRun) -> Call:
    """The HTTP request of an attempt (design/engine.md, Identity of a delivery)."""
    slot = run.scheduled_for.isoformat().replace("+00:00", "Z")
    return Call(
        id=run.id,
        url=parse_webhook_url(run.webhook_url).url,
        headers={
            "Content-Type": "application/json",
            "User-Agent": f"Insignia/{VERSION}",
            "webhook-id": str(run.id),
            "webhook-timestamp": str(int(run.started_at.timestamp())),
            "X-Insignia-Task-Id": str(run.task_id),
            "X-Insignia-Scheduled-For": slot,
            "X-Insignia-Attempt": str(run.number),
            "Accept": "*/*",
            "Expect": "",
        },
        body=run.payload.encode(),
        timeout_seconds=TIMEOUT_SECONDS,
    )


def log_delivery(decision: Decision, disposal: Disposal) -> None:
    """One line per delivery; the webhook's URL only as scheme, host and hash."""
    run, attempt = decision.run, decision.attempt
    log.log(
        logging.INFO if disposal is Disposal.SUCCESS else logging.WARNING,
        "%s: %s → %s: %s",
        disposal,
        run.task_name,
        redacted(run.webhook_url),
        decision.message,
        extra={
            "task_id": str(run.task_id),
            "run_id": str(run.id),
            "attempt": run.number,
            "status": disposal,
            "http_status": attempt.http_status,
            "error": attempt.error,
            "duration_ms": attempt.duration_ms,
        },
    )
