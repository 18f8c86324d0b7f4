"""The headers a user may add to the calls of a task (SECURITY.md)."""

import re
from collections.abc import Mapping

from domain.errors import InvalidInput

MAX_HEADERS = 20
MAX_BYTES = 8 * 1024
"""Of all names and values together, without the `: ` and the line ends between them."""

REFUSED_NAMES = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "expect",
        "upgrade",
        "te",
        "trailer",
        "metadata-flavor",
    }
)
REFUSED_PREFIXES = ("proxy-", "webhook-", "x-insignia-")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]*")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[\x20-\x7e\t]*")
_LONGEST_SHOWN = 60


def validate_headers(headers: Mapping[str, str]) -> None:
    """Raise InvalidInput, which names the header but never shows a value, unless all can be sent as they are.

    Names are tokens and differ in more than case (RFC 9110, 5.1). A user's Content-Type, User-Agent or
    traceparent takes the place of ours; what frames the request, and what says who it is from, is ours alone.
    """
    if len(headers) > MAX_HEADERS:
        raise InvalidInput(f"There are {len(headers):,} headers; use at most {MAX_HEADERS}.")
    if (size := sum(len(name) + len(value) for name, value in headers.items())) > MAX_BYTES:
        raise InvalidInput(
            f"The names and values of the headers have {size:,} characters together; use at most "
            f"{MAX_BYTES:,}."
        )
    seen = set[str]()
    for name, value in headers.items():
        _check_name(name)
        if name.lower() in seen:
            raise InvalidInput(f"Header {_shown(name)} is given twice; case makes no difference in names.")
        seen.add(name.lower())
        _check_value(name, value)


def _check_name(name: str) -> None:
    if not name:
        raise InvalidInput("A header has an empty name; use a name such as X-Api-Key.")
    if not _TOKEN.fullmatch(name):
        raise InvalidInput(
            f"The name of header {_shown(name)} has a character that no header name has; use letters, digits "
            "and '-', without a colon."
        )
    if name.lower() in REFUSED_NAMES or name.lower().startswith(REFUSED_PREFIXES):
        raise InvalidInput(f"Header {_shown(name)} is reserved, so it cannot be set; leave it out.")


def _check_value(name: str, value: str) -> None:
    if not value:
        raise InvalidInput(f"Header {_shown(name)} has no value; give it one or leave the header out.")
    if not _VALUE.fullmatch(value):
        raise InvalidInput(
            f"The value of header {_shown(name)} has a character that cannot be sent; use ASCII letters, "
            "digits, punctuation and blanks on one line."
        )
    if value != value.strip(" \t"):
        raise InvalidInput(
            f"The value of header {_shown(name)} begins or ends with a blank, which is lost on the way; "
            "remove it."
        )


def _shown(name: str) -> str:
    """A name for a message, up to what does not belong: whole lines, "Name: value", get pasted as names."""
    token = _TOKEN.match(name)
    shown = token[0][:_LONGEST_SHOWN] if token else ""
    return f"'{shown}'" if shown == name else f"'{shown}...'"
