"""The way into Cloud SQL without a password: Google's connector, with a login by IAM.

The connector costs 540 ms to import and has a thread, so it is imported and made on first use, after any fork.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import pg8000
from sqlalchemy import URL

from db.driver import result_of
from domain.errors import Unavailable

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

CONNECT_SECONDS = 10.0
"""How long a connection may take: a key, two calls of Google's API, TLS and the login."""


class CloudSql:
    """A connector on an event loop of its own, because its own way to wait for it has no time limit.

    The credentials are those of the process, and the API is Google's, unless a test brings its own.
    """

    def __init__(
        self, *, credentials: Credentials | None = None, sqladmin_api_endpoint: str | None = None
    ) -> None:
        from google.cloud.sql.connector import Connector

        self._loop = asyncio.new_event_loop()
        try:
            self._connector = Connector(
                loop=self._loop,
                refresh_strategy="lazy",
                credentials=credentials,
                sqladmin_api_endpoint=sqladmin_api_endpoint,
            )
        except BaseException:
            self._loop.close()
            raise
        self._thread = threading.Thread(target=self._loop.run_forever, name="cloud-sql", daemon=True)
        self._thread.start()

    def connect(self, address: URL, connect_args: dict[str, Any]) -> Any:
        """A connection of pg8000 to the instance that the query of `address` names.

        Raises what pg8000 raises for a refused login, and an OSError when something does not answer.
        """
        opening = asyncio.run_coroutine_threadsafe(
            self._connector.connect_async(
                str(address.query["cloud_sql"]),
                "pg8000",
                enable_iam_auth=True,
                ip_type=address.query.get("ip_type", "public"),
                user=address.username,
                database=address.database,
                **connect_args,
            ),
            self._loop,
        )
        try:
            connection = result_of(opening, CONNECT_SECONDS)
        except TimeoutError:
            opening.cancel()  # otherwise it would hold up all that come after it
            raise
        # pg8000 does not do it for a socket that it is given.
        connection._usock.settimeout(connect_args["timeout"])
        return connection

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._connector.close_async(), self._loop).result(CONNECT_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@cache
def of_this_process() -> CloudSql:
    """The one that all engines of this process share."""
    made = CloudSql()
    atexit.register(made.close)
    return made


def connect(cloud_sql: CloudSql | None, address: URL, connect_args: dict[str, Any]) -> Any:
    """A connection for a pool; raises Unavailable, or an error of pg8000 or of the network."""
    try:
        return (cloud_sql or of_this_process()).connect(address, connect_args)
    except (pg8000.Error, OSError):
        raise
    except Exception as error:  # those of aiohttp, google-auth and the connector have no base in common
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Unavailable(
            f"The request could not be served: Cloud SQL gives no connection ({reason[:300]}); try again."
        ) from error
