"""What a tick removes when its work is done: what nobody needs any more, in batches."""

from collections.abc import Callable
from functools import partial

from db.deleted_tasks import delete_logs_of_deleted_tasks
from db.engine import Connection, Engine, transaction
from db.idempotency import forget_expired_keys
from db.notifications import remove_old_notifications
from db.retention import remove_expired_logs
from db.task_log_counts import fold_changes
from domain.retention import Retention
from functions.transfer import monotonic

HOUSEKEEPING_SECONDS = 1.0
ROWS_REMOVED_AT_ONCE = 1_000

Removal = Callable[[Connection, int], bool]
"""Removes at most so many rows, and says whether there may be more."""


def clean_up(
    engine: Engine, retention: Retention, *, ends_at: float, is_stopping: Callable[[], bool]
) -> None:
    """Let each removal have its turn, again and again while it finds something and there is time."""
    until = min(ends_at, monotonic() + HOUSEKEEPING_SECONDS)
    waiting: list[Removal] = [
        delete_logs_of_deleted_tasks,
        fold_changes,
        forget_expired_keys,
        remove_old_notifications,
        partial(remove_expired_logs, retention=retention),
    ]
    while waiting and monotonic() < until and not is_stopping():
        removal = waiting.pop(0)
        with transaction(engine) as connection:
            is_more = removal(connection, ROWS_REMOVED_AT_ONCE)
        if is_more:
            waiting.append(removal)
