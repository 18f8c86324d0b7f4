"""What schemathesis sends must not leave this machine: webhook URLs that it makes up lead to where nobody listens.

Runs of tasks and `POST /tasks/test` call them, and even to look a name up would be traffic.
"""

from typing import Any

import schemathesis

from domain.errors import InvalidWebhookUrl
from domain.webhook_url import parse_webhook_url
from tests.acceptance.server import NOWHERE


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """What is not a URL stays as it is, to be refused."""
    url = case.body.get("webhook_url") if isinstance(case.body, dict) else None
    if isinstance(url, str) and is_valid(url):
        case.body = case.body | {"webhook_url": NOWHERE}


def is_valid(url: str) -> bool:
    try:
        parse_webhook_url(url)
    except InvalidWebhookUrl:
        return False
    return True
