"""Notifications: a tick writes them down with the changes that they tell, and sends what waits beside its calls.

Nothing here fails a tick or holds up a task: what cannot be told now is told later (docs/notifications.md).
"""

import logging
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from db.engine import Connection, Engine, transaction
from db.health import read_last_tick
from db.notifications import claim_notifications, record_told, write_notifications
from db.ticks import read_clock
from domain.attempt import Attempt, unsendable
from domain.errors import InvalidInput, Unavailable
from domain.message import body_of
from domain.notification import EVERYBODY, Change, Notification, Told, after_attempt, late_tick
from domain.run import LEASE_MARGIN_SECONDS
from domain.signature import parse_signing_secret, signature_header
from domain.success_statuses import DEFAULT, parse_success_statuses
from domain.task import Method
from domain.webhook_url import parse_webhook_url
from functions import VERSION
from functions.delivery import FROZEN_SECONDS, Deliveries
from functions.egress import Egress
from functions.events import log_notification
from functions.health import is_tick_late
from functions.lookout import BATCH_SECONDS, PAUSE_SECONDS
from functions.transfer import Call, monotonic

SECONDS = 5.0
"""An answer is waited for no longer."""

CALLS = 16
"""In flight at once, of one tick; beside those of the tasks."""

Tell = Callable[[Connection, Sequence[Change]], None]
"""Writes down what somebody is to be told, in the transaction of the changes."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifySettings:
    """Whom changes of all tasks are told, if anybody, and the keys that sign every notification."""

    url: str | None = None
    signing_secrets: Sequence[str] = ()
    dashboard_url: str | None = None
    """Without a slash at its end."""


def tell_nobody(_: Connection, __: Sequence[Change]) -> None:
    pass


class Notifier:
    """Writes and sends the notifications of one tick; use as a context manager, from its thread."""

    def __init__(
        self,
        engine: Engine,
        egress: Egress,
        settings: NotifySettings,
        *,
        ends_at: float,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._egress = egress
        self._settings = settings
        self._ends_at = ends_at
        self._is_stopping = is_stopping
        self._looks_at = math.inf
        self._deliveries: Deliveries | None = None
        self._calls: dict[str, Notification] = {}
        self._told: list[Told] = []

    def tell(self, connection: Connection, changes: Sequence[Change]) -> None:
        heard = [one for one in changes if (one.notify_url or self._settings.url) is not None]
        if heard:
            write_notifications(connection, heard)
            self.look()

    def tell_of_late_tick(self) -> None:
        """Write down that the last tick is too long ago, by the rule of /health, unless another tick has done so.

        Raises Unavailable when the database failed.
        """
        if self._settings.url is None:
            return
        with transaction(self._engine) as connection:
            last = read_last_tick(connection)
            if last is not None and is_tick_late(last):
                self.tell(connection, [late_tick(last.finished_at, read_clock(connection))])

    def look(self) -> None:
        """Something is due."""
        self._looks_at = monotonic()

    def go_on(self, wait_seconds: float = 0) -> None:
        """Begin the calls that are due and record those that have ended; waits no longer than for one of these."""
        try:
            if self._may_claim():
                self._claim()
            if self._deliveries is not None:
                self._collect(self._deliveries, wait_seconds)
            if self._told:
                self._record()
        except Unavailable as error:
            logger.warning("notifications wait: %s", error)
            self._looks_at = math.inf

    def finish(self) -> None:
        """Send what is due and wait for the answers, within the time of the tick; not if the process must end."""
        while (self._calls or self._may_claim()) and not self._is_stopping() and monotonic() < self._ends_at:
            self.go_on(PAUSE_SECONDS)

    def _may_claim(self) -> bool:
        now = monotonic()
        if now < self._looks_at or len(self._calls) >= CALLS:
            return False
        return now + SECONDS + 1 <= self._ends_at and not self._is_stopping()

    def _claim(self) -> None:
        began_at = monotonic()
        with transaction(self._engine) as connection:
            claimed = claim_notifications(
                connection,
                CALLS - len(self._calls),
                lease_seconds=SECONDS + LEASE_MARGIN_SECONDS,
                is_for_everybody=self._settings.url is not None,
            )
        if not claimed:
            self._looks_at = math.inf if claimed is not None else monotonic() + BATCH_SECONDS
            return
        if self._deliveries is None:
            self._deliveries = Deliveries(self._egress)
        was_frozen = monotonic() - began_at > FROZEN_SECONDS
        for notification in claimed:
            if str(notification.id) in self._calls:  # its lease had ended while this process was frozen
                self._calls[str(notification.id)] = notification
                continue
            try:
                call = call_of(notification, self._settings)
            except InvalidInput as error:
                self._end(notification, unsendable(str(error)))
                continue
            if was_frozen:
                self._end(notification, None)
            else:
                self._calls[call.id] = notification
                self._deliveries.start(call)

    def _collect(self, deliveries: Deliveries, wait_seconds: float) -> None:
        for finished in deliveries.wait(wait_seconds):
            self._end(self._calls.pop(finished.call.id), finished.attempt)

    def _end(self, notification: Notification, attempt: Attempt | None) -> None:
        self._told.append(after_attempt(notification, attempt, random.random()))

    def _record(self) -> None:
        with transaction(self._engine) as connection:
            record_told(connection, self._told)
        told, self._told = self._told, []
        for one in told:
            next_at = monotonic() + (one.delay_seconds if one.outcome is None else 0)
            self._looks_at = min(self._looks_at, next_at)
            log_notification(one, url_of(one.notification, self._settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._deliveries is not None:
            self._deliveries.close()


def url_of(notification: Notification, settings: NotifySettings) -> str:
    return settings.url or "" if notification.url == EVERYBODY else notification.url


def call_of(notification: Notification, settings: NotifySettings) -> Call:
    """The call that tells; raises InvalidInput for what cannot be sent."""
    webhook_id, timestamp = str(notification.id), int(notification.claimed_at.timestamp())
    url = parse_webhook_url(url_of(notification, settings))
    body = body_of(notification, url.host, settings.dashboard_url)
    headers = {
        "User-Agent": f"Insignia/{VERSION}",
        "Content-Type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
    }
    if secrets := [parse_signing_secret(secret) for secret in settings.signing_secrets]:
        headers["webhook-signature"] = signature_header(secrets, webhook_id, timestamp, body)
    return Call(
        id=webhook_id,
        url=url,
        method=Method.POST,
        headers=headers,
        body=body,
        timeout_seconds=SECONDS,
        success_statuses=parse_success_statuses(DEFAULT),
        claimed_at=notification.claimed_at,
    )
