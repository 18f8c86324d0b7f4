"""`tick`, the function that Cloud Scheduler calls, and what a tick shares with a worker: settings in, summary out."""

from domain.errors import Unavailable
from domain.rate import by_host
from domain.retention import Retention
from domain.summary import TickKind
from functions import bootstrap, schemas, telemetry
from functions.auth import Caller
from functions.events import log_failed_tick, log_summary
from functions.heartbeat import beat
from functions.limits import Limits
from functions.notifications import NotifySettings
from functions.routing import Routes
from functions.schema import require_schema
from functions.settings import Settings
from functions.ticking import run_tick
from functions.transfer import monotonic
from functions.workers import wake_workers

routes = Routes("Tick")


def account_of_scheduler(settings: Settings) -> Caller | None:
    """Whose identity tokens open `tick`: those that Cloud Scheduler sends."""
    account = settings.tick_service_account
    return None if account is None else Caller((account,), settings.tick_audience)


@routes.add("POST", "/tick", caller=account_of_scheduler)
def tick() -> schemas.TickSummary:
    """Run what is due.

    Called every minute, by Cloud Scheduler or the local run; takes as long as the deliveries take, at most
    TICK_BUDGET_SECONDS. Calling it more often, or twice at once, does no harm. 503 when the database failed, or
    has an older schema than this code: that is asked for first.
    """
    with telemetry.span("tick"):
        return serve(TickKind.TICK)


def serve(kind: TickKind) -> schemas.TickSummary:
    """A tick, or a worker, for a request."""
    settings, engine = bootstrap.settings(), bootstrap.tick_database()
    began_at = monotonic()
    try:
        require_schema(engine, settings.migrate_url, is_stopping=bootstrap.is_stopping)
        limits = Limits(
            budget_seconds=max(settings.tick_budget_seconds - (monotonic() - began_at), 0),
            concurrency=settings.delivery_concurrency,
            per_destination=settings.destination_concurrency,
            retention=Retention(
                success_days=settings.retention_success_days, other_days=settings.retention_days
            ),
            rates=by_host(settings.destination_rates),
        )
        if kind is TickKind.TICK:
            wake_workers(engine, settings)
        summary = run_tick(
            engine,
            bootstrap.egress(),
            limits,
            kind=kind,
            notify=NotifySettings(
                url=settings.notify_url,
                signing_secrets=settings.notify_signing_secrets,
                dashboard_url=settings.insignia_url,
            ),
            is_stopping=bootstrap.is_stopping,
        )
    except Unavailable as error:
        log_failed_tick(error, kind)
        tell_monitor(settings, kind, has_failed=True)
        raise
    log_summary(summary, kind)
    tell_monitor(settings, kind, has_failed=False)
    return schemas.TickSummary.model_validate(summary)


def tell_monitor(settings: Settings, kind: TickKind, *, has_failed: bool) -> None:
    """The monitor expects ticks, not workers; a process that must end has no time for it."""
    if settings.heartbeat_url is not None and kind is TickKind.TICK and not bootstrap.is_stopping():
        beat(settings.heartbeat_url, bootstrap.egress(), has_failed=has_failed)
