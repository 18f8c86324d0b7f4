"""Who is told of changes, and the webhook of tasks that change, for tests of notifications."""

import base64
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text

from db.engine import transaction
from db.tables import notifications as notifications_table
from domain.summary import TickSummary
from functions.notifications import NotifySettings
from tests.receiver import Answer, Received, Receiver

if TYPE_CHECKING:
    from tests.integration.conftest import Insignia

KEY = b"a-key-that-is-no-secret-"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(KEY[::-1]).decode()


class Person(Receiver):
    """Who is told; answers with `status`."""

    def __init__(self, insignia: "Insignia") -> None:
        super().__init__(self.reply)
        self.insignia = insignia
        self.status = 200
        self.headers: dict[str, str] = {}
        self.settings = NotifySettings(url=self.url, signing_secrets=[SECRET])

    def reply(self, _: Received) -> Answer:
        return self.status, b"", self.headers

    def tick(self, **options: Any) -> TickSummary:
        return self.insignia.tick(notify=self.settings, **options)

    @property
    def heard(self) -> list[tuple[str, str]]:
        """The type and the task's name of each message."""
        return [(one.json["type"], one.json["data"]["task_name"]) for one in self.requests]

    @property
    def types(self) -> list[str]:
        return [one.json["type"] for one in self.requests]

    def outbox(self, columns: str) -> list[tuple[Any, ...]]:
        with transaction(self.insignia.engine) as connection:
            order = notifications_table.c.number
            rows = connection.execute(select(text(columns)).select_from(notifications_table).order_by(order))
            return [tuple(row) for row in rows]

    def puts_off(self) -> None:
        """For so long that no tick of a test comes to it."""
        self.status, self.headers = 503, {"Retry-After": "900"}

    def let_waits_pass(self) -> None:
        self.insignia.execute(
            "UPDATE notifications SET available_at = clock_timestamp() WHERE outcome IS NULL"
        )


class Webhook(Receiver):
    """A task's, which answers with `status`."""

    def __init__(self) -> None:
        super().__init__(lambda _: (self.status, b""))
        self.status = 200


def run(insignia: "Insignia", person: Person, webhook: Webhook, *statuses: int) -> None:
    """Let the tasks run once for each of these answers."""
    for status in statuses:
        webhook.status = status
        make_due(insignia)
        person.tick()


def make_due(insignia: "Insignia") -> None:
    """All tasks, for another slot each time, within one minute."""
    insignia.execute("UPDATE task_state SET next_run_at = clock_timestamp() WHERE status = 'active'")
