"""/ui/system: whether Insignia works, how its ticks went, and how it is set."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import flask

from db.engine import transaction
from db.ticks import RecordedTick, read_clock, read_last_ticks, read_timings
from functions import VERSION, bootstrap
from functions.health import LATE_SLOT_SECONDS, health
from functions.problems import Unhealthy
from functions.reports import Health
from functions.settings import Settings, defaults
from functions.ui.charts import tick_chart
from functions.ui.pages import SYSTEM, Pages, View
from functions.ui.text import seconds

HOURS = 6
LAST = 30
UNFOLDED = 8
"""How many of the last ticks and workers there are, and how many of them are shown at once."""

NAMES = {
    "in_cloud": "K_SERVICE",
    "api_tokens": "API_TOKEN",
    "api_read_tokens": "API_READ_TOKEN",
    "migrate_service_accounts": "MIGRATE_SERVICE_ACCOUNT",
    "workers": "DELIVER_WORKERS",
    "notify_signing_secrets": "NOTIFY_SIGNING_SECRET",
}
"""Fields of Settings that are not called as their settings."""

SHOWN = {
    "host",
    "port",
    "cors_origins",
    "data_dir",
    "local_tick",
    "egress_allow",
    "ssl_cert_file",
    "tick_budget_seconds",
    "delivery_concurrency",
    "destination_concurrency",
    "destination_rates",
    "retention_success_days",
    "retention_days",
    "log_level",
    "log_file",
    "google_cloud_project",
    "tick_service_account",
    "tick_audience",
    "workers",
    "deliver_topic",
    "deliver_service_account",
    "deliver_audience",
    "pubsub_emulator_host",
    "migrate_service_accounts",
    "migrate_url",
    "database_app_users",
    "scheduler_job",
    "insignia_url",
    "own_hosts",
}
"""Fields of Settings whose values are for everybody who may look; of others only whether they are set is told."""

OUTCOMES = {
    "succeeded": "delivered",
    "failed": "failed",
    "retrying": "to be tried again",
    "throttled": "put off",
    "missed": "missed",
    "skipped": "skipped",
    "cancelled": "cancelled",
    "deactivated": "deactivated",
    "late": "too late to record",
    "unsettled": "not recorded",
}
"""Counts of a tick, in words."""

pages = Pages()


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that does not work, and what to do about it."""

    cause: str
    advice: str


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """`is_default` is None for a setting whose value is not shown."""

    name: str
    value: str
    is_default: bool | None


@pages.page("GET", SYSTEM)
def system(view: View) -> flask.Response:
    """What is known also when the database is away."""
    settings = bootstrap.settings()
    known: dict[str, Any] = {
        "version": VERSION,
        "settings": list(shown_settings(settings)),
        "hours": HOURS,
    }
    try:
        told = health()
    except Unhealthy as error:
        fault = Fault(str(error), "docs/operations.md, Troubleshooting, has this message.")
        return view.render("system.html", **known, told=None, members=error.members, faults=[fault])
    with transaction(bootstrap.database()) as connection:
        now = read_clock(connection)
        timings = read_timings(connection, HOURS)
        last = read_last_ticks(connection, LAST)
    return view.render(
        "system.html",
        **known,
        told=told,
        members=told.model_dump(),
        faults=list(faults_of(told, settings)),
        now=now,
        chart=tick_chart(timings, now, HOURS, is_late=told.tick == "late"),
        unfolded=UNFOLDED,
        last=[(tick, came_of(tick), tick.summary.lag_seconds > LATE_SLOT_SECONDS) for tick in last],
    )


def faults_of(told: Health, settings: Settings) -> Iterator[Fault]:
    if told.tick == "pending":
        yield Fault("No tick has run yet: no webhook is called.", caller_of_ticks(settings))
    elif told.tick == "late":
        yield Fault(
            f"The last tick ended {seconds(told.tick_age_seconds)} ago: no webhook is called.",
            f"{caller_of_ticks(settings)} Nothing is lost: the next tick accounts for what is due.",
        )
    elif told.lag_seconds > LATE_SLOT_SECONDS:
        yield Fault(
            f"The oldest due task has waited for {seconds(told.lag_seconds)}: webhooks are called late.",
            "After a pause this is the backlog, and falls. Else more is due than ticks deliver: raise "
            "DELIVERY_CONCURRENCY, or DESTINATION_CONCURRENCY if most of it goes to one host; lower the "
            "timeout_seconds of tasks whose webhooks are slow; spread schedules over the hour.",
        )
    if told.scheduler not in (None, "enabled", "unknown"):
        yield Fault(
            f"The job of Cloud Scheduler is {told.scheduler}: it does not call tick.",
            "`python main.py scheduler resume` makes it go on, and `scheduler ensure` makes one that is missing.",
        )


def caller_of_ticks(settings: Settings) -> str:
    if settings.in_cloud:
        return (
            "Cloud Scheduler should call tick every minute. `python main.py scheduler status` says what became of "
            "its last call, and the log of tick why one failed; docs/operations.md goes through it."
        )
    if settings.local_tick:
        return (
            "`make run` calls POST /tick at each full minute for as long as it runs; without it, call that "
            "from a cron."
        )
    return "LOCAL_TICK is off: call POST /tick every minute, or switch LOCAL_TICK on."


def came_of(tick: RecordedTick) -> str:
    counts = {words: getattr(tick.summary, name) for name, words in OUTCOMES.items()}
    return ", ".join(f"{count:,} {words}" for words, count in counts.items() if count)


def shown_settings(settings: Settings) -> Iterator[ShownSetting]:
    usual = defaults(in_cloud=settings.in_cloud)
    for field in fields(Settings):
        name, value = NAMES.get(field.name, field.name.upper()), getattr(settings, field.name)
        if field.name in SHOWN:
            yield ShownSetting(name, words_of(value), value == getattr(usual, field.name))
        else:
            yield ShownSetting(name, "set" if value else "not set", None)


def words_of(value: Any) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case None | ():
            return "none"
        case tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)
