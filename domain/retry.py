"""When a failed attempt is repeated."""

FIRST_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 300.0
MAX_JITTER = 0.1


def retry_delay_seconds(retry: int, jitter: float) -> float:
    """Wait before retry number `retry` (from 1): 1, 2, 4, 8 s ... at most 300 s, and never less.

    `jitter` in [0, 1) adds up to 10 % (design/engine.md, Retries); the caller draws it.
    """
    delay = min(FIRST_DELAY_SECONDS * 2.0 ** min(retry - 1, 30), MAX_DELAY_SECONDS)
    return delay * (1 + MAX_JITTER * jitter)
