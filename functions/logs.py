"""Logging: one JSON object per event in the cloud, readable lines on a laptop.

The names of the JSON's fields are Cloud Logging's: https://cloud.google.com/logging/docs/structured-logging
"""

import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

import orjson

from functions.request_id import request_id, trace_id
from functions.settings import Settings, SettingsError

FILE_BYTES = 10_000_000
FILE_BACKUPS = 5
PIPE_BYTES = 4_096
"""What Linux writes into a pipe in one piece (pipe(7), PIPE_BUF): no line of another process comes into it."""


def configure(settings: Settings) -> None:
    """Set up the root logger: stdout, and a rotating file where one is set. Call once per process.

    Raises SettingsError when the file cannot be written.
    """
    formatter = CloudFormatter(settings.google_cloud_project) if settings.in_cloud else LocalFormatter()
    handlers: list[logging.Handler] = [LineHandler(sys.stdout)]
    if settings.log_file is not None:
        check_can_be_written(settings.log_file)
        handlers.append(
            RotatingFileHandler(
                settings.log_file, maxBytes=FILE_BYTES, backupCount=FILE_BACKUPS, encoding="utf-8", delay=True
            )
        )
    for handler in handlers:
        handler.setFormatter(formatter)
    without_unused_fields()
    logging.basicConfig(level=settings.log_level, handlers=handlers, force=True)
    for chatty in ("sqlalchemy", "alembic", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def without_unused_fields() -> None:
    """Spare each line what no formatter here shows: its place in the code, its thread, process and asyncio task.

    https://docs.python.org/3/howto/logging.html#optimization
    """
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]  # new in Python 3.12


def check_can_be_written(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError as error:
        raise SettingsError(
            f"LOG_FILE is '{file}', which cannot be written ({error.strerror}); expected the path of a file."
        ) from error


def log_together(logger: logging.Logger, records: Sequence[logging.LogRecord]) -> None:
    """Log records that are there at once, each by itself; on stdout they share their writes."""
    for record in records[:-1]:
        record.__dict__["is_followed"] = True
    for record in records:
        logger.handle(record)


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes each line at once, unless it is followed at once by another: then several, in one call to the system.

    Any line writes those before it, whoever logs it. What a process that is killed may not have written are lines
    of its last `log_together`.
    """

    _unwritten_bytes = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            try:
                self._write(self.format(record) + self.terminator)
            finally:  # a line that cannot be formatted holds back none of those before it
                if not hasattr(record, "is_followed"):
                    self.flush()
        except Exception:  # as logging.StreamHandler does
            self.handleError(record)

    def _write(self, line: str) -> None:
        line_bytes = len(line.encode(errors="replace"))
        if self._unwritten_bytes + line_bytes > PIPE_BYTES:
            self.flush()
        self.stream.write(line)
        self._unwritten_bytes += line_bytes

    def flush(self) -> None:
        super().flush()
        self._unwritten_bytes = 0


class CloudFormatter(logging.Formatter):
    """One line of JSON: severity, message, time, trace and request id, and what is given as `extra={"fields": ...}`."""

    def __init__(self, project: str | None) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "severity": record.levelname,
            "message": record.getMessage(),
            "time": datetime.fromtimestamp(record.created, UTC),
            "logger": record.name,
        }
        if identity := request_id.get():
            entry["request_id"] = identity
        if trace := trace_id.get():
            entry["logging.googleapis.com/trace"] = (
                f"projects/{self._project}/traces/{trace}" if self._project else trace
            )
        entry |= record.__dict__.get("fields", {})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(entry, default=str, option=orjson.OPT_UTC_Z).decode()
        except orjson.JSONEncodeError:  # what no UTF-8 can hold, or an integer of more than 64 bits
            return json.dumps(entry, default=str)


class LocalFormatter(logging.Formatter):
    """A line for people: local time, the level unless it is INFO, and the message."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        time = datetime.fromtimestamp(record.created).astimezone()
        line = f"{time:%H:%M:%S} {level}{record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
