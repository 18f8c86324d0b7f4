"""Rates: how many calls may begin to a destination within a time (docs/engine.md, Rates).

The rule is a sliding window: a call may begin when fewer than `calls` began in the `seconds` before it. A bucket that
refills would let nearly twice as many begin within one window. Instants are seconds of one clock.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from domain.errors import InvalidInput
from domain.webhook_url import parse_webhook_url

SLACK_SECONDS = 0.25
"""A window is longer by this: so much longer may one call take from its claim to the receiver than another."""

NO_RATES = "none"
EXPECTED = (
    "a host, or host/* for each URL of it apart, with calls (1 to 1000) and seconds (1 to 3600), such as "
    "discord.com/*=5/2s"
)

_RATE = re.compile(r"(?P<authority>[^/=\s]+)(?P<each>/\*)?=(?P<calls>[0-9]{1,4})/(?P<seconds>[0-9]{1,4})s")
_HAS_PORT = re.compile(r".*:[0-9]+")
_PATH = re.compile(r"[^:]*://[^/?#]*([^?#]*)")

MOST_MS = 2**31 - 1
"""What an integer of PostgreSQL holds."""

HOLD_PAUSE_SECONDS = 60

Hold = tuple[float, float | None]
"""Since when a destination has held calls back, and until when: None while that is not known."""

Grants = Sequence[tuple[float, int]]
"""When calls began, oldest first, and how many at once."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `calls` may begin within any `seconds`: to `host`, or to `each_url` of it, whatever its query.

    `host` is a name or an address, of any port, or has the port behind a colon that is meant alone.
    """

    host: str
    each_url: bool
    calls: int
    seconds: int

    def __str__(self) -> str:
        return f"{self.host}{'/*' if self.each_url else ''}={self.calls}/{self.seconds}s"

    @property
    def window_seconds(self) -> float:
        return self.seconds + SLACK_SECONDS


@dataclass(frozen=True, slots=True)
class Limit:
    """What counts together under a rate: `target` is a destination, or that and a path; `key` tells neither."""

    target: str
    key: str
    rate: Rate


def parse_rates(text: str) -> tuple[Rate, ...]:
    """The rates of a list separated by commas, or of `none`; raises InvalidInput, naming the one that is wrong."""
    if text.strip().lower() == NO_RATES:
        return ()
    rates = tuple(parse_rate(part.strip()) for part in text.split(",") if part.strip())
    hosts = [rate.host for rate in rates]
    for host in hosts:
        if hosts.count(host) > 1:
            raise InvalidInput(f"has {host!r} twice; expected one rate for each host.")
    return rates


def parse_rate(text: str) -> Rate:
    parts = _RATE.fullmatch(text)
    expected = f"has {text!r}; expected {EXPECTED}, separated by commas."
    if parts is None or not (1 <= int(parts["calls"]) <= 1_000 and 1 <= int(parts["seconds"]) <= 3_600):
        raise InvalidInput(expected)
    try:
        url = parse_webhook_url(f"https://{parts['authority']}/")
    except InvalidInput as error:
        raise InvalidInput(f"{expected} {error}") from None
    port = f":{url.port}" if _HAS_PORT.fullmatch(parts["authority"]) else ""
    return Rate(f"{url.host}{port}", bool(parts["each"]), int(parts["calls"]), int(parts["seconds"]))


def by_host(rates: Iterable[Rate]) -> dict[str, Rate]:
    return {rate.host: rate for rate in rates}


def rate_of(rates: Mapping[str, Rate], destination: str) -> Rate | None:
    """The rate of a destination (scheme://host:port), by the hosts of the rates; that of its port comes first."""
    authority = destination.partition("://")[2]
    return rates.get(authority) or rates.get(authority.rpartition(":")[0])


def limit_of(rate: Rate, destination: str, webhook_url: str) -> Limit:
    if not rate.each_url:
        return Limit(destination, rate.host, rate)
    path = _PATH.match(webhook_url)
    target = destination + ((path and path[1]) or "/")
    return Limit(target, f"{rate.host}/{sha256(target.encode()).hexdigest()[:32]}", rate)


def destinations_of(targets: Iterable[str]) -> set[str]:
    """Scheme, host and port of targets that are URLs."""
    return {"/".join(parts[:3]) for target in targets if len(parts := target.split("/", 3)) > 3}


def held_ms(hold: Hold, due_at: float, now: float) -> int:
    """For how long of the time since it was due a call was held back."""
    since, until = hold
    held_seconds = min(now, until or now) - max(due_at, since)
    return min(max(round(held_seconds * 1_000), 0), MOST_MS)


def held_again(hold: Hold | None, now: float) -> Hold:
    """The hold that begins now; one that ended less than a minute ago goes on."""
    if hold is not None and hold[1] is not None and hold[1] > now - HOLD_PAUSE_SECONDS:
        return hold[0], None
    return now, None


def recent(grants: Grants, rate: Rate, now: float) -> Grants:
    """Those that still count. One of the future counts as one of now: the clock was set back."""
    since = now - rate.window_seconds
    return [(min(at, now), calls) for at, calls in grants if at > since]


def calls_left(grants: Grants, rate: Rate) -> int:
    """How many calls may begin at once, by the grants that count."""
    return max(rate.calls - sum(calls for _, calls in grants), 0)


def wait_seconds(grants: Grants, rate: Rate, now: float) -> float:
    """How long until the next call may begin, by the grants that count."""
    excess = sum(calls for _, calls in grants) - rate.calls
    for at, calls in grants:
        if excess < 0:
            break
        excess -= calls
        if excess < 0:
            return at + rate.window_seconds - now
    return 0.0
