"""How a receiver treats the calls of a task."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver answers; a status of None is no answer."""

    status: int | None
    after_seconds: float = 0
    retry_after: str | None = None


REPLIES = {
    "answers 200": Reply(200),
    "is slow": Reply(200, after_seconds=0.2),
    "fails": Reply(500),
    "is gone": Reply(410),
    "is busy": Reply(429),
    "throttles": Reply(429, retry_after="90"),
    "hangs up": Reply(None),
    "is silent": Reply(None, after_seconds=1.3),
}


class Behaviour:
    """How a receiver treats a task: its next calls in one way (all, if `times` is None), then it answers 200."""

    def __init__(self, kind: str = "answers 200", times: int | None = None) -> None:
        self._kind, self._times = kind, times

    def reply(self) -> Reply:
        if self._times is not None:
            self._times -= 1
            if self._times < 0:
                return REPLIES["answers 200"]
        return REPLIES[self._kind]

    def __str__(self) -> str:
        return self._kind if self._times is None else f"{self._kind} {self._times} times"
