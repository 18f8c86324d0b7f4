"""Workers: instances of `deliver` that a tick wakes by Pub/Sub when more is due than it can deliver alone.

PostgreSQL alone says what is due and who has claimed it. A message carries nothing, so that one that is lost, late
or doubled changes nothing: the tick delivers by itself, and the next one catches up.
"""

import logging
from functools import partial

from db.backlog import mean_call_seconds, read_backlog
from db.engine import Engine, transaction
from domain.errors import Unavailable
from domain.workers import workers_to_wake
from functions.background import in_background
from functions.events import log_wake_up
from functions.identity import fetch_access_token, plain_session
from functions.settings import Settings

PUBSUB_URL = "https://pubsub.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/pubsub"
TIMEOUT_SECONDS = 5
WAKE_UP = {"attributes": {"reason": "due"}}
"""Pub/Sub takes no message without anything in it."""

logger = logging.getLogger(__name__)


def wake_workers(engine: Engine, settings: Settings) -> None:
    """Publish a message for each worker that is needed; does not wait for Pub/Sub, whose failures are only logged.

    Raises Unavailable when the database failed.
    """
    if not settings.workers or settings.deliver_topic is None:
        return
    with transaction(engine) as connection:
        due, call_seconds = read_backlog(connection).due, mean_call_seconds(connection)
    number = workers_to_wake(
        due,
        call_seconds=call_seconds,
        concurrency=settings.delivery_concurrency,
        budget_seconds=settings.tick_budget_seconds,
        at_most=settings.workers,
    )
    if number:
        in_background(
            partial(publish, settings.deliver_topic, number, emulator=settings.pubsub_emulator_host)
        )


def publish(topic: str, number: int, *, emulator: str | None = None, url: str = PUBSUB_URL) -> None:
    """Publish `number` wake-ups to `topic`; the log says whether Pub/Sub took them.

    Over plain HTTP: Google's client would have to be imported, while `tick` has imported requests and google-auth
    to check who calls it.
    """
    import requests

    try:
        headers = {} if emulator else {"Authorization": f"Bearer {fetch_access_token(SCOPE)}"}
        with plain_session() as session:
            answer = session.post(
                f"{f'http://{emulator}' if emulator else url}/v1/{topic}:publish",
                json={"messages": [WAKE_UP] * number},
                headers=headers,
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
            )
    except (requests.RequestException, Unavailable) as error:
        log_wake_up(number, failure=type(error.__cause__ or error).__name__)
    except Exception:
        logger.exception("Unexpected error while workers were woken")  # nobody waits for this thread
    else:
        is_taken = answer.status_code == requests.codes.ok
        log_wake_up(number, failure=None if is_taken else f"HTTP {answer.status_code}")
