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


def make_webhooks(number: int, receivers: list[str]) -> list[Webhook]:
    """Spread over `receivers` (base URLs), with 20 different pairs of schedule and timezone."""
    later = datetime.now(UTC) + timedelta(minutes=30)
    schedules = [
        f"{later.minute} {rest}"
        for rest in ("* * * *", "*/2 * * *", "9 * * *", "9-17 * * MON-FRI", f"{later.hour} 1 * *")
    ]
    return [
        Webhook(
            number=n,
            url=f"{receivers[n % len(receivers)]}/hooks/{n}",
            schedule=schedules[n % len(schedules)],
            timezone=TIMEZONES[n // len(schedules) % len(TIMEZONES)],
        )
        for n in range(number)
    ]
