"""The contestant Insignia: the tick as production runs it, with its default settings and its JSON log."""

from sqlalchemy import text

from db.engine import make_engine, transaction
from db.migrations import upgrade
from db.tasks import create_task
from domain.task import TaskDefinition, TaskStatus
from functions import bootstrap
from functions.tick import tick
from tests.bench.webhooks import Webhook

ENVIRONMENT = {
    "K_SERVICE": "tick",
    "API_TOKEN": "a-token-of-the-benchmark",
    "EGRESS_ALLOW": "127.0.0.0/8",
}


def prepare(url: str, webhooks: list[Webhook]) -> None:
    upgrade(url)
    with transaction(make_engine(url, pool_size=0)) as connection:
        for webhook in webhooks:
            definition = TaskDefinition(
                name=str(webhook.number),
                schedule=webhook.schedule,
                timezone=webhook.timezone,
                webhook_url=webhook.url,
                payload=webhook.payload,
            )
            create_task(connection, definition, TaskStatus.ACTIVE)


def make_due(url: str) -> None:
    with transaction(make_engine(url, pool_size=0)) as connection:
        connection.execute(text("UPDATE task_state SET next_run_at = statement_timestamp()"))


def run() -> None:
    bootstrap.start()
    tick()


def outcomes(url: str) -> list[tuple[int, str]]:
    statement = text("SELECT name::int, status FROM task_logs JOIN tasks ON tasks.id = task_id")
    with transaction(make_engine(url, pool_size=0)) as connection:
        return [(number, status) for number, status in connection.execute(statement)]
