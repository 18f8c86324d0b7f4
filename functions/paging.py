"""Cursors on the wire: an opaque text that says where the next page begins, in which order."""

import base64
import json
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import flask
from pydantic_core import PydanticCustomError

from db.paging import Listing, Position
from functions.fields import canonical_uuid, instant
from functions.json_body import parse_json
from functions.problems import HttpError


def next_page_token(order: str, listing: Listing[Any]) -> str | None:
    return None if listing.next is None else encoded(order, listing.next)


def encoded(order: str, position: Position) -> str:
    """The page_token for the rows after `position`."""
    value = position.value.isoformat() if isinstance(position.value, datetime) else position.value
    text = json.dumps([order, value, str(position.id)], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decoded(order: str, token: str) -> Position:
    """The position that `encoded` gave out for the same order; raises PydanticCustomError `page_token`."""
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars="-_", validate=True)
        of_order, value, identity = parse_json(text)
        if not isinstance(value, str):
            raise TypeError
        is_name = of_order in ("name", "-name")
        position = Position(value if is_name else instant(value), canonical_uuid(identity))
    except (ValueError, TypeError, HttpError, PydanticCustomError):
        raise PydanticCustomError("page_token", "not a page token") from None
    if of_order != order:
        raise PydanticCustomError("page_token_order", "of another order")
    return position


def link_to_next(request: flask.Request, token: str) -> str:
    """The value of a Link header (RFC 8288) that leads to the next page of what was asked for.

    It is relative to the URL of the request: what stands before our paths may have been cut off.
    """
    parameters = request.args.to_dict() | {"page_token": token}
    parameters.pop("skip", None)
    return f'<?{urlencode(parameters)}>; rel="next"'
