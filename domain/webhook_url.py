"""Webhook URLs: parsed once, here, so that what was checked is what is sent."""

import hashlib
import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from domain.errors import InvalidWebhookUrl

MAX_LENGTH = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}
NOT_HTTP = "The webhook URL must begin with http:// or https://."

_PARTS = re.compile(r"([^:/?#]+)://([^/?#]*)([^#]*)(?:#.*)?")  # scheme, authority, path and query
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?P<colon>:(?P<port>.*))?")
_FORBIDDEN = re.compile(r"[\s\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_LONGEST_HOST = 253
_SENT_AS_THEY_ARE = "!$%&'()*+,/:;=?@[]~"
_PLAIN = re.compile(rf"[A-Za-z0-9_.#{re.escape(_SENT_AS_THEY_ARE)}-]{{0,{MAX_LENGTH}}}")
_IDNA_DEVIATIONS = "ßς\u200c\u200d"


class WebhookUrl(NamedTuple):
    """A URL that can be called: `url` is the exact ASCII text to be sent, without user info and fragment.

    `origin` is what it begins with: the scheme, the host, and the port unless it is the scheme's own. `host` is in
    lower case, ASCII, without brackets and without a trailing dot; `port` is never 0.
    """

    scheme: str
    host: str
    port: int
    origin: str
    url: str

    @property
    def destination(self) -> tuple[str, str, int]:
        """What shares a server: scheme, host and port."""
        return self.scheme, self.host, self.port


@lru_cache(maxsize=2_048)  # a tick asks twice for each call: to send it, and to log it
def parse_webhook_url(text: str) -> WebhookUrl:
    """The URL as it will be called; raises InvalidWebhookUrl with a sentence that does not repeat it."""
    is_plain = _PLAIN.fullmatch(text) is not None  # most are: there is nothing to check or to quote
    if not is_plain:
        _check_characters(text)
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise InvalidWebhookUrl(NOT_HTTP)
    scheme, authority, path_and_query = parts.groups()
    if not path_and_query.startswith("/"):
        path_and_query = f"/{path_and_query}"
    scheme, host, port, origin = _origin(scheme, authority)
    sent = path_and_query if is_plain else quote(path_and_query, safe=_SENT_AS_THEY_ARE)
    return WebhookUrl(scheme, host, port, origin, origin + sent)


@lru_cache(maxsize=2_048)
def _origin(scheme: str, authority: str) -> tuple[str, str, int, str]:
    """What the URLs of a host have in common: the fields of a WebhookUrl but for `url`."""
    scheme = scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise InvalidWebhookUrl(NOT_HTTP)
    if "@" in authority:
        raise InvalidWebhookUrl(
            "The webhook URL contains a user name or password; remove what stands before the '@'."
        )
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise InvalidWebhookUrl("The host of the webhook URL is not valid; use a name or an IP address.")
    host = _host(parts["host"])
    port = _port(parts["port"]) if parts["colon"] else DEFAULT_PORTS[scheme]
    shown_port = "" if port == DEFAULT_PORTS[scheme] else f":{port}"
    bare_host = host.strip("[].") if host.startswith("[") else host.removesuffix(".")
    return scheme, bare_host, port, f"{scheme}://{host}{shown_port}"


def redacted(url: str) -> str:
    """Scheme, host and port with a short hash, for logs; never path or query, and never an error."""
    digest = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    try:
        parsed = parse_webhook_url(url)
    except InvalidWebhookUrl:
        return f"(invalid URL {digest})"
    return f"{parsed.origin} ({digest})"


def _check_characters(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise InvalidWebhookUrl(
            f"The webhook URL has {len(text):,} characters; at most {MAX_LENGTH:,} are allowed."
        )
    forbidden = _FORBIDDEN.search(text)
    if forbidden is None:
        return
    if forbidden[0].isspace():
        raise InvalidWebhookUrl(
            "The webhook URL contains a blank or a line break; write it as %20 or remove it."
        )
    if forbidden[0] == "\\":
        raise InvalidWebhookUrl("The webhook URL contains a backslash; use '/' or write it as %5C.")
    raise InvalidWebhookUrl("The webhook URL contains a control character; remove it.")


def _host(text: str) -> str:
    """The host in lower-case ASCII, as it stands in a URL: brackets and a trailing dot are kept."""
    if not text:
        raise InvalidWebhookUrl("The webhook URL has no host; use a name such as hooks.example.com.")
    if text.startswith("["):
        try:
            address = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            raise InvalidWebhookUrl("The webhook URL has an IPv6 address that is not valid.") from None
        if address.scope_id is not None:
            raise InvalidWebhookUrl(
                "The webhook URL has an IPv6 address with a zone; remove '%' and what follows."
            )
        return f"[{address.compressed}]"
    host = _ascii(text).lower()
    labels = host.removesuffix(".").split(".")
    if any(not label for label in labels):
        raise InvalidWebhookUrl("The host of the webhook URL has an empty part; remove the extra dot.")
    if any(len(label) > 63 for label in labels) or len(host.removesuffix(".")) > _LONGEST_HOST:
        raise InvalidWebhookUrl(
            f"The host of the webhook URL is too long: {_LONGEST_HOST} characters at most, 63 between dots."
        )
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidWebhookUrl(
            "The host of the webhook URL has a character that no host has; use letters, digits, '-' and '.'."
        )
    return host


def _ascii(host: str) -> str:
    if host.isascii() or len(host) > _LONGEST_HOST:  # the codec takes quadratic time
        return host
    if any(character in _IDNA_DEVIATIONS for character in host):
        raise InvalidWebhookUrl(
            "The host of the webhook URL has a letter that IDNA 2003 and 2008 spell differently; "
            "write the host in its xn-- form."
        )
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise InvalidWebhookUrl(
            "The host of the webhook URL is not a valid international name; write it in its xn-- form."
        ) from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise InvalidWebhookUrl("The port of the webhook URL is not valid; use 1 to 65535, or leave ':' out.")
    return int(text)
