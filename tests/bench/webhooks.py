"""What is to be delivered: webhooks whose schedules do not fire by themselves during the benchmark."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

TIMEZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """`number` tells webhooks apart: it is the name of the task and the end of the URL."""

    number: int
    url: str
    schedule: str
    timezone: str

    @property
    def payload(self) -> dict[str, object]:
        return {"event": "invoice.reminder", "number": self.number, "customer": f"customer-{self.number}"}


def addresses(hosts: int) -> list[str]:
    """As many addresses of this machine; all of 127.0.0.0/8 leads to it."""
    return [f"127.0.{1 + n // 200}.{1 + n % 200}" for n in range(hosts)]


def make_webhooks(number: int, *, scheme: str, port: int, hosts: int) -> list[Webhook]:
    """Spread over the hosts, with 20 different pairs of schedule and timezone."""
    later = datetime.now(UTC) + timedelta(minutes=30)
    schedules = [
        f"{later.minute} {rest}"
        for rest in ("* * * *", "*/2 * * *", "9 * * *", "9-17 * * MON-FRI", f"{later.hour} 1 * *")
    ]
    all_hosts = addresses(hosts)
    return [
        Webhook(
            number=n,
            url=f"{scheme}://{all_hosts[n % hosts]}:{port}/hooks/{n}",
            schedule=schedules[n % len(schedules)],
            timezone=TIMEZONES[n // len(schedules) % len(TIMEZONES)],
        )
        for n in range(number)
    ]
