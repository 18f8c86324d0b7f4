"""The schema that `tick` needs: if the database is behind this code, `tick` asks the function `migrate` for it."""

import logging
from collections.abc import Callable
from concurrent.futures import wait
from functools import partial

from db.engine import Engine
from db.migrations import is_schema_behind
from domain.errors import Unavailable
from functions.background import in_background
from functions.identity import fetch_identity_token, plain_session
from functions.transfer import monotonic

MIGRATION_SECONDS = 45
"""How long a tick waits for a migration: the next tick, a minute later, asks again."""

PAUSE_SECONDS = 0.2
NOT_ANSWERED = (
    "The database's schema is older than this code, and the function migrate at MIGRATE_URL has not answered in "
    "time; the next tick asks again."
)

logger = logging.getLogger(__name__)


def require_schema(engine: Engine, migrate_url: str | None, *, is_stopping: Callable[[], bool]) -> None:
    """Raise Unavailable while the schema is behind, having asked `migrate` for it once.

    Costs one query as long as it is not; a database that was restored from an old backup is behind again.
    """
    if not is_schema_behind(engine):
        return
    if migrate_url is None:
        raise Unavailable(
            "The database's schema is older than this code; run the migration: POST /migrate of the function "
            "migrate, or `alembic upgrade head`."
        )
    migration = in_background(partial(request_migration, migrate_url))
    until = monotonic() + MIGRATION_SECONDS
    while not wait([migration], PAUSE_SECONDS).done:
        if is_stopping():
            raise Unavailable(
                "This instance is being stopped while it waits for a migration; the next tick goes on."
            )
        if monotonic() >= until:
            raise Unavailable(NOT_ANSWERED)
    migration.result()
    logger.info("the database was migrated to the schema of this code")
    if is_schema_behind(engine):
        raise Unavailable(
            "The database's schema is older than this code, also after a migration: deploy the function migrate "
            "from the same code, and name the user of tick in its DATABASE_APP_USERS."
        )


def request_migration(url: str) -> None:
    """POST /migrate with the identity of this function; raises Unavailable unless it was done."""
    import requests

    token = fetch_identity_token(audience=url)
    try:
        with plain_session() as session:
            answer = session.post(
                f"{url}/migrate",
                headers={"Authorization": f"Bearer {token}"},
                timeout=MIGRATION_SECONDS,
                allow_redirects=False,
            )
    except requests.RequestException as error:
        raise Unavailable(NOT_ANSWERED) from error
    if answer.status_code != requests.codes.ok:
        raise Unavailable(
            "The database's schema is older than this code, and the function migrate answered HTTP "
            f"{answer.status_code}: look into its log. Its callers need the role run.invoker and are named in "
            "its MIGRATE_SERVICE_ACCOUNT."
        )
