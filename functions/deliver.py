"""POST /deliver: a worker, woken by a push subscription of Pub/Sub (functions/workers.py), in the loop of a tick."""

import base64
import binascii
import logging
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from domain.summary import TickKind
from functions import schemas, telemetry
from functions.auth import Caller
from functions.fields import SentInstant, whole_number
from functions.routing import Routes
from functions.settings import Settings
from functions.tick import serve

SUBSCRIPTION = r"^projects/[^/\s]+/subscriptions/[^/\s]+$"

routes = Routes("Deliver")
logger = logging.getLogger(__name__)


def base64_text(value: Any) -> str:
    """In the alphabet of RFC 4648, padded."""
    try:
        base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise PydanticCustomError("base64", "not base64") from None
    return str(value)


class PushedMessage(BaseModel):
    """A message of Pub/Sub; what it says is not asked for."""

    messageId: Annotated[str, Field(min_length=1)]  # noqa: N815 - Pub/Sub's names
    publishTime: SentInstant  # noqa: N815
    data: Annotated[str, AfterValidator(base64_text)] = ""
    attributes: dict[str, str] = {}


class Push(BaseModel):
    """The body that a push subscription sends; members that Google may add are no mistake.

    https://cloud.google.com/pubsub/docs/push#receive_push
    """

    message: PushedMessage
    subscription: Annotated[str, Field(pattern=SUBSCRIPTION)]
    deliveryAttempt: Annotated[int | None, Field(ge=1), BeforeValidator(whole_number)] = None  # noqa: N815


def account_of_subscription(settings: Settings) -> Caller | None:
    """Whose identity tokens open `deliver`: those that the push subscription sends."""
    account = settings.deliver_service_account
    return None if account is None else Caller((account,), settings.deliver_audience)


@routes.add("POST", "/deliver", caller=account_of_subscription)
def deliver(body: Push) -> schemas.TickSummary:
    """Deliver what is due until nothing is left, at most TICK_BUDGET_SECONDS.

    2xx acknowledges the message, also when there was nothing to do. 503 when the database failed: Pub/Sub sends
    the message again then, and a later tick goes on in any case.
    """
    logger.info("woken by message %r, attempt %s", body.message.messageId, body.deliveryAttempt or 1)
    with telemetry.span("worker"):
        return serve(TickKind.WORKER)
