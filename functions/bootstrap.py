"""What a process needs once: its settings, its token and its database, made on first use.

Nothing here runs at import: gunicorn forks after it, and a pool or a thread must not cross a fork.
"""

import gc
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import flask

from db.engine import Engine, make_engine, make_tick_engine
from functions import descriptors, logs, telemetry
from functions.egress import Egress
from functions.identity import IdentityVerifier
from functions.lookups import is_address
from functions.settings import Settings, SettingsError, api_tokens, load, read_environment

API_CONNECTIONS = 5
TICK_CONNECTIONS = 2
"""Of one instance: with the number of instances, they must fit into what the database allows."""

GARBAGE_THRESHOLD = 50_000


def start() -> None:
    """Check the settings, set up logging and the process; a wrong setting ends the process with one line."""
    try:
        logs.configure(settings())
        telemetry.configure(settings().otel_exporter_otlp_endpoint)
    except SettingsError as error:
        sys.exit(f"Insignia cannot start: {error}")
    descriptors.allow_many()
    without_control_socket()
    collect_garbage_rarely()


def collect_garbage_rarely() -> None:
    """Leave out of garbage collection what has been imported, and look at the rest less often.

    Thousands of runs at once are thousands of objects that all live until they are settled: by the default, the
    collector goes through them every 700, and finds nothing (3 % of the CPU of a tick).
    """
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


def without_control_socket() -> None:
    """gunicorn would open one in the home directory, the same for all servers, which then complain.

    functions-framework passes neither gunicorn's options nor its configuration file on.
    """
    with suppress(ImportError):  # not on every platform
        from gunicorn.config import ControlSocketDisable

        ControlSocketDisable.default = True


@cache
def settings() -> Settings:
    """The settings of this process, locally with a token of its own if none is set; raises SettingsError."""
    loaded = load(read_environment())
    if loaded.api_tokens or loaded.in_cloud:
        return loaded
    return replace(loaded, api_tokens=(local_token(loaded.data_dir),))


def is_stopping() -> bool:
    """Whether gunicorn was told to stop this worker.

    gunicorn installs its own handler for SIGTERM after the fork; its worker says whether it still is alive.
    """
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return not getattr(worker, "alive", True)


@cache
def database() -> Engine:
    """The API's connections."""
    return make_engine(existing_database_url(), pool_size=API_CONNECTIONS)


@cache
def tick_database() -> Engine:
    """The connections of ticks."""
    return make_tick_engine(existing_database_url(), pool_size=TICK_CONNECTIONS)


def egress() -> Egress:
    """Which addresses webhooks may reach.

    In the cloud not the host at which this very request came: a function knows its own name by nothing else.
    """
    own_hosts = set(settings().own_hosts)
    if settings().in_cloud and flask.has_request_context():
        host = urlsplit(f"//{flask.request.host}").hostname
        if host and not is_address(host):  # an address is no name that the cloud gives to a function
            own_hosts.add(host)
    return Egress(allow=settings().egress_allow, own_hosts=own_hosts, authorities=settings().ssl_cert_file)


@cache
def identity_verifier() -> IdentityVerifier:
    """Who checks identity tokens, with Google's certificates."""
    return IdentityVerifier()


def existing_database_url() -> str:
    """Where the database is: as set, or the embedded one that a local run has started."""
    from db.embedded import running_url

    url = settings().database_url or running_url(settings().data_dir)
    if url is None:
        raise SettingsError(
            "DATABASE_URL is missing; expected a PostgreSQL URL, or a local run (`make run`) that has started one."
        )
    return url


@contextmanager
def migration_database_url() -> Iterator[str]:
    """Where to migrate: as set, or the embedded one, started for this purpose if it is not running."""
    from db.embedded import EmbeddedPostgres, running_url

    url = settings().database_url or running_url(settings().data_dir)
    if url is not None:
        yield url
    else:
        with EmbeddedPostgres(settings().data_dir) as url:
            yield url


def local_token(data_dir: Path) -> str:
    """The token of a local run, generated once and kept in DATA_DIR/api-token, for its owner only."""
    path = data_dir / "api-token"
    try:
        if not path.exists():
            data_dir.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}")
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(32))
            draft.replace(path)
        (token,) = api_tokens({"API_TOKEN": path.read_text()})
    except OSError as error:
        raise SettingsError(
            f"DATA_DIR is '{data_dir}', which cannot be used ({error.strerror}); expected a directory to write in."
        ) from error
    except (ValueError, SettingsError) as error:
        raise SettingsError(
            f"{path} holds no token that can be used; delete it, and the next start makes one."
        ) from error
    return token
