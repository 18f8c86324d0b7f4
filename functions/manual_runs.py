"""Calls that a user asks for: a manual run, by the engine of the tick, and the test of a task that is not stored."""

from collections.abc import Callable, Iterable
from functools import partial
from uuid import UUID

from db.claiming import Claimed
from db.engine import Connection, Engine, transaction
from db.manual_runs import begin_retry, begin_run, unstored_run
from db.task_logs import get_task_log
from domain.attempt import Attempt
from domain.errors import Unavailable
from domain.rate import by_host
from domain.run import TaskLog
from domain.task import MAX_TIMEOUT_SECONDS, TaskDefinition, TaskStatus
from functions import bootstrap, telemetry
from functions.chores import Chores
from functions.delivery import Deliveries
from functions.egress import Egress
from functions.idempotency import RunOnce
from functions.limits import SPARE_SECONDS, STOP_SECONDS, Limits
from functions.ticking import Tick
from functions.transfer import FinishedCall
from functions.webhook import call_of

LIMITS = Limits(
    budget_seconds=MAX_TIMEOUT_SECONDS + SPARE_SECONDS + STOP_SECONDS, concurrency=1, per_destination=1
)
"""One call, and for as long the database may be away when its result is there."""


def run_task(task_id: UUID, once: RunOnce) -> TaskLog:
    """Begin a manual run and make its first attempt; its log after that. Raises NotFound."""
    return begun(partial(begin_run, task_id=task_id), once)


def retry_log(log_id: UUID, once: RunOnce) -> TaskLog:
    """The same for the run of a log, once more. Raises NotFound, and Conflict while that is under way."""
    return begun(partial(begin_retry, log_id=log_id), once)


def begun(begin: Callable[..., Claimed], once: RunOnce) -> TaskLog:
    engine = bootstrap.database()
    settings = bootstrap.settings()
    begin = partial(
        begin,
        per_destination=settings.destination_concurrency,
        rates=by_host(settings.destination_rates),
    )
    with telemetry.span("run by hand"):
        attempt(
            engine, bootstrap.egress(), partial(begin_once, begin, once), is_stopping=bootstrap.is_stopping
        )
    with transaction(engine) as connection:
        return get_task_log(connection, once.run_id)


def begin_once(begin: Callable[..., Claimed], once: RunOnce, connection: Connection) -> Claimed:
    """What `begin` claims, unless a request with the same key has begun it before."""
    return Claimed() if once.is_begun(connection) else begin(connection, run_id=once.run_id)


def attempt(
    engine: Engine,
    egress: Egress,
    begin: Callable[[Connection], Claimed],
    *,
    is_stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Make the first attempt of the run that `begin` claims; raises what `begin` raises, and Unavailable.

    What cannot be recorded is left to the end of its lease, as in a tick.
    """
    with Deliveries(egress) as deliveries, Chores() as chores:
        Tick(engine, deliveries, chores, LIMITS, is_stopping).attempt(begin)


def headers_of(lines: Iterable[bytes]) -> dict[str, str]:
    """Received lines as names and values; what came more than once is joined with commas (RFC 9110, 5.3).

    A line of status begins another answer: those before it were 1xx.
    """
    headers: dict[str, str] = {}
    for line in lines:
        if line.startswith(b"HTTP/"):
            headers.clear()
            continue
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            known = next((one for one in headers if one.lower() == name.lower()), name)
            headers[known] = ", ".join(filter(None, (headers.get(known), value.strip())))
    return headers


def call_unstored(definition: TaskDefinition, status: TaskStatus) -> tuple[Attempt, dict[str, str]]:
    """Make one call as a task of this definition would, and store nothing; with the headers of its answer.

    Raises InvalidInput as `create_task` does, and Unavailable while the destination's rate is used up.
    """
    with transaction(bootstrap.database()) as connection:
        rates = by_host(bootstrap.settings().destination_rates)
        run = unstored_run(connection, definition, status, rates)
    finished: list[FinishedCall] = []
    with Deliveries(bootstrap.egress()) as deliveries:
        deliveries.start(call_of(run))
        while not finished:
            finished = deliveries.wait(run.timeout_seconds)
    if finished[0].attempt is None:
        raise Unavailable(
            "The call was not made: this process had been stopped for a while, or had no file descriptor "
            "left; try again."
        )
    return finished[0].attempt, headers_of(finished[0].header_lines)
