"""The local run: an embedded PostgreSQL, the functions, and a clock that calls POST /tick every minute.

This process supervises two children that end with it, PostgreSQL and functions-framework's server, and takes
the part of Cloud Scheduler: it calls `tick` over HTTP, one call at a time.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import requests

from db import migrations
from db.child_process import bound_to_parent
from db.embedded import EmbeddedPostgres
from domain.errors import InsigniaError, Unavailable
from functions import bootstrap
from functions.settings import Settings, SettingsError, environment_with

ROOT = Path(__file__).parent.parent
START_SECONDS = 30
STOP_SECONDS = 12
TICK_TIMEOUT_SECONDS = 120
SERVER_THREADS = "32"
"""A connection on which a browser sends nothing yet holds one for 5 s, and the tick needs one too."""

PAUSE_SECONDS = 0.1


def main(*, with_demo: bool) -> None:
    """Run until Ctrl-C or SIGTERM."""
    for signum in (signal.SIGINT, signal.SIGTERM):  # a background job of a shell ignores SIGINT by default
        signal.signal(signum, signal.default_int_handler)
    try:
        settings = bootstrap.settings()
        while Run(settings, with_demo=with_demo).serve():
            print("PostgreSQL ended unexpectedly; starting again. Nothing that was recorded is lost.")
    except InsigniaError as error:
        sys.exit(f"Insignia cannot run: {error}")
    except KeyboardInterrupt:
        print("Stopped.")


class Run:
    """One life of the children."""

    def __init__(self, settings: Settings, *, with_demo: bool) -> None:
        self._settings = settings
        self._with_demo = with_demo
        self._url = f"http://{host_of_url(settings)}:{settings.port}"
        self._postgres: EmbeddedPostgres | None = None
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["Authorization"] = f"Bearer {settings.api_tokens[0]}"
        # A connection that is kept alive delays the end of the server by 2 s.
        self._http.headers["Connection"] = "close"

    def serve(self) -> bool:
        """Serve until interrupted; True when PostgreSQL ended and all should be started again."""
        check_port_is_free(self._settings)
        with ExitStack() as stack:
            database_url = self._settings.database_url
            if database_url is None:
                self._postgres = EmbeddedPostgres(self._settings.data_dir)
                database_url = stack.enter_context(self._postgres)
            self._server = stack.enter_context(server_process(self._settings, database_url))
            migrate(database_url)
            self._wait_until_served()
            stack.enter_context(self._http)
            print(banner(self._settings, self._url), flush=True)
            if self._with_demo:
                from functions.demo import demo

                stack.enter_context(demo(self._http, self._url))
            return self._tick_every_minute()

    def _wait_until_served(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._server.poll() is not None:
                raise SettingsError(
                    f"the server ended at once (exit code {self._server.returncode}); see above."
                )
            with contextlib.suppress(requests.ConnectionError):
                if self._http.get(f"{self._url}/health", timeout=5, allow_redirects=False).ok:
                    return
            time.sleep(PAUSE_SECONDS)
        raise SettingsError(f"the server does not answer at {self._url} after {START_SECONDS} s.")

    def _tick_every_minute(self) -> bool:
        """Call POST /tick at each full minute, as Cloud Scheduler does: never two calls at once."""
        while True:
            next_minute = datetime.now().astimezone().replace(second=0, microsecond=0) + timedelta(minutes=1)
            while datetime.now().astimezone() < next_minute or not self._settings.local_tick:
                if self._postgres is not None and self._postgres.poll() is not None:
                    return True
                if self._server.poll() is not None:
                    raise SettingsError(
                        f"the server ended with exit code {self._server.returncode}; see above."
                    )
                time.sleep(PAUSE_SECONDS)
            try:
                answer = self._http.post(
                    f"{self._url}/tick", timeout=TICK_TIMEOUT_SECONDS, allow_redirects=False
                )
                if not answer.ok:
                    print(f"tick: {answer.json()['detail']}", flush=True)
            except requests.RequestException as error:
                print(f"tick: no answer ({type(error).__name__})", flush=True)


def host_of_url(settings: Settings) -> str:
    return f"[{settings.host}]" if ":" in settings.host else settings.host


def check_port_is_free(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise SettingsError(
                f"PORT {settings.port} on HOST {settings.host} cannot be used ({error.strerror}); "
                "stop the program that uses it, or set PORT to another number."
            ) from error


def migrate(database_url: str) -> None:
    try:
        migrations.upgrade(database_url)
    except Unavailable as error:
        raise SettingsError(
            f"DATABASE_URL (or POSTGRES_HOST) leads to no database that can be used: {error}"
        ) from error


@contextmanager
def server_process(settings: Settings, database_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """functions-framework serving `local`; stopped gently, so that calls in flight are recorded."""
    command = [sys.executable, "-m", "functions_framework", "--target=local", f"--source={ROOT / 'main.py'}"]
    address = [f"--host={host_of_url(settings)}", f"--port={settings.port}"]
    environment = environment_with(
        {"DATABASE_URL": database_url, "API_TOKEN": ",".join(settings.api_tokens), "THREADS": SERVER_THREADS}
    )
    server = subprocess.Popen(
        bound_to_parent([*command, *address], signal.SIGTERM), env=environment, start_new_session=True
    )
    try:
        yield server
    except KeyboardInterrupt:
        print("Stopping …", flush=True)
        raise
    finally:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        finally:
            server.kill()
            server.wait()


def banner(settings: Settings, url: str) -> str:
    token = settings.api_tokens[0]
    tick = "every full minute" if settings.local_tick else "off (LOCAL_TICK): POST /tick runs what is due"
    return f"""
Insignia is running. Ctrl-C stops it.

  Pages   {url}/ui/sign-in#token={quote(token, safe="")}
          (this link signs you in)
  API     {url}
  Docs    {url}/docs
  Token   {token}
  Ticks   {tick}

Create a task that is called every minute, with your webhook in place of the example:

  curl {url}/tasks/ \\
    -H "Authorization: Bearer {token}" \\
    -H "Content-Type: application/json" \\
    -d '{{"name": "Hello", "schedule": "* * * * *", "webhook_url": "https://hooks.example.com/hello"}}'
"""
