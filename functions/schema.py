"""The schema that `tick` needs: if the database is behind this code, `tick` asks the function `migrate` for it."""

import logging
from functools import cache

from db.migrations import is_schema_behind
from domain.errors import Unavailable
from functions import bootstrap
from functions.identity import fetch_identity_token, plain_session

MIGRATION_SECONDS = 45
"""How long a tick waits for a migration: with its budget, this fits into the 120 s of its request."""

logger = logging.getLogger(__name__)


@cache
def require_schema() -> None:
    """Raise Unavailable while the schema is behind; asks for a migration once per call until it is not.

    One query per process once that is so: an error is not remembered.
    """
    if not is_schema_behind(bootstrap.tick_database()):
        return
    url = bootstrap.settings().migrate_url
    if url is None:
        raise Unavailable(
            "The database's schema is older than this code; run the migration: POST /migrate of the function "
            "migrate, or `alembic upgrade head`."
        )
    request_migration(url)
    if is_schema_behind(bootstrap.tick_database()):
        raise Unavailable(
            "The database's schema is older than this code, also after a migration: deploy the function migrate "
            "from the same code."
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
        raise Unavailable(
            "The database's schema is older than this code, and the function migrate at MIGRATE_URL has not "
            f"answered within {MIGRATION_SECONDS} s; the next tick asks again."
        ) from error
    if answer.status_code != requests.codes.ok:
        raise Unavailable(
            "The database's schema is older than this code, and the function migrate answered HTTP "
            f"{answer.status_code}: look into its log. Its callers need the role run.invoker and are named in "
            "its MIGRATE_SERVICE_ACCOUNT."
        )
    logger.info("the database was migrated to the schema of this code")
