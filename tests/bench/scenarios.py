"""Who takes part, and in what: scenarios of webhooks that are all due at one instant."""

from collections.abc import Mapping
from dataclasses import dataclass

OURS = "insignia"
WITH_WORKERS = "insignia_workers"
UNLIMITED = "insignia_unlimited"
FLOOR = "floor"
SLOW = ("peers.apscheduler", "peers.procrastinate", "naive", "seed")
CONTESTANTS = (OURS, FLOOR, "peers.pgqueuer", *SLOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`contestants`: each with the share of the webhooks that it delivers."""

    name: str
    words: str
    contestants: Mapping[str, float]
    hosts: int = 200
    delay_seconds: float = 0
    is_https: bool = False


FAST = dict.fromkeys(CONTESTANTS[:3], 1.0)

SCENARIOS = (
    Scenario(
        name="at_once",
        words="200 hosts that answer at once",
        contestants=FAST | dict.fromkeys(SLOW, 0.1),
    ),
    Scenario(name="https", words="the same over verified HTTPS", contestants=FAST, is_https=True),
    Scenario(
        name="after_100_ms",
        words="200 hosts that answer after 100 ms",
        contestants=FAST,
        delay_seconds=0.1,
    ),
    Scenario(name="one_host", words="one host that answers at once", contestants=FAST, hosts=1),
    Scenario(
        name="one_slow_host",
        words="one host that answers after 100 ms",
        contestants=FAST | {UNLIMITED: 1.0},
        hosts=1,
        delay_seconds=0.1,
    ),
    Scenario(
        name="after_1_s",
        words="200 hosts that answer after 1 s",
        contestants=dict.fromkeys((OURS, WITH_WORKERS), 0.25),
        delay_seconds=1,
    ),
)


def title(contestant: str) -> str:
    """The name that people know it by."""
    return {
        OURS: "Insignia",
        WITH_WORKERS: "with 4 workers",
        UNLIMITED: "Insignia without a limit for a host",
        FLOOR: "the floor",
        "peers.pgqueuer": "PgQueuer",
        "peers.apscheduler": "APScheduler",
        "peers.procrastinate": "procrastinate",
        "naive": "a loop of requests",
        "seed": "the first design",
    }[contestant]
