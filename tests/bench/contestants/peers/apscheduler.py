"""APScheduler 3: a job with a cron trigger for each webhook, in PostgreSQL, called by threads with requests.

As its user guide has it (https://apscheduler.readthedocs.io/en/3.x/userguide.html): SQLAlchemyJobStore, a pool of 20
threads; with psycopg2, SQLAlchemy's default driver. requests with a Session for each thread, as its documentation
advises for many calls. The design has no log of runs, and in its favour none is written.
"""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import requests
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from tests.bench.webhooks import Webhook

thread = threading.local()


def deliver(url: str, payload: dict[str, object]) -> None:
    if not hasattr(thread, "session"):
        thread.session = requests.Session()
    thread.session.post(url, json=payload, timeout=10).raise_for_status()


def scheduler() -> BackgroundScheduler:
    return BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(url="postgresql+psycopg2://")},
        executors={"default": ThreadPoolExecutor(20)},
        job_defaults={"misfire_grace_time": None},
        timezone=UTC,
    )


def prepare(webhooks: Sequence[Webhook]) -> None:
    """Due since now: a scheduler that starts runs what was due while it was away.

    This one stays paused until the process ends; as it shuts down, it would run what is due.
    """
    preparing = scheduler()
    preparing.start(paused=True)
    now = datetime.now(UTC)
    for webhook in webhooks:
        trigger = CronTrigger.from_crontab(webhook.schedule, timezone=ZoneInfo(webhook.timezone))
        preparing.add_job(deliver, trigger, [webhook.url, webhook.payload], next_run_time=now)


def make_due() -> None:
    """See prepare()."""


def run() -> None:
    running = scheduler()
    left = threading.Semaphore(0)

    def count(event: JobExecutionEvent) -> None:
        left.release()

    running.add_listener(count, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
    running.start(paused=True)
    jobs = len(running.get_jobs())
    running.resume()
    for _ in range(jobs):
        left.acquire()
    running.shutdown()


def outcomes() -> None:
    """It has no log."""
