"""Logging: one JSON object per event in the cloud, readable lines on a laptop.

The names of the JSON's fields are Cloud Logging's: https://cloud.google.com/logging/docs/structured-logging
"""

import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import BinaryIO

import orjson

from functions.request_id import request_id, trace_id
from functions.settings import Settings, SettingsError

Line = tuple[int, tuple[object, ...], dict[str, object]]
"""Of several that are logged together: its level, the parts of its message, and its fields."""

FILE_BYTES = 10_000_000
FILE_BACKUPS = 5
PIPE_BYTES = 4_096
"""What Linux writes into a pipe in one piece (pipe(7), PIPE_BUF): no line of another process comes into it."""


def configure(settings: Settings) -> None:
    """Set up the root logger: stdout, and a rotating file where one is set. Call once per process.

    Raises SettingsError when the file cannot be written.
    """
    formatter: logging.Formatter
    handlers: list[logging.Handler] = []
    outputs: list[logging.Handler] = []
    if settings.in_cloud:
        formatter = CloudFormatter(settings.google_cloud_project)
        handlers.append(CloudHandler(sys.stdout.buffer, formatter))
    else:
        formatter = LocalFormatter()
        outputs.append(logging.StreamHandler(sys.stdout))
    if settings.log_file is not None:
        check_can_be_written(settings.log_file)
        outputs.append(
            RotatingFileHandler(
                settings.log_file, maxBytes=FILE_BYTES, backupCount=FILE_BACKUPS, encoding="utf-8", delay=True
            )
        )
    if outputs:
        handlers.append(TogetherHandler(outputs, formatter))
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


def log_together(logger: logging.Logger, message: str, lines: Sequence[Line]) -> None:
    """Log lines that are there at once, each as a record of its own; they share their writes.

    What they have in common, their instant too, is found out once: to make a record takes as long as to write it.
    """
    common = vars(logger.makeRecord(logger.name, logging.NOTSET, "", 0, message, (), None))
    for number, (level, args, fields) in enumerate(lines, 1):
        record = logging.LogRecord.__new__(logging.LogRecord)
        record.__dict__ = own = common.copy()
        own["levelno"], own["levelname"] = level, logging.getLevelName(level)
        own["args"], own["fields"], own["is_followed"] = args, fields, number < len(lines)
        logger.handle(record)


@lru_cache(maxsize=1)  # lines that are logged together have the same instant
def written(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z")


class CloudFormatter(logging.Formatter):
    """One line of JSON: severity, message, time, trace and request id, and what is given as `extra={"fields": ...}`."""

    def __init__(self, project: str | None) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        return self.line(record).decode()

    def line(self, record: logging.LogRecord) -> bytes:
        """In UTF-8, without its end."""
        entry: dict[str, object] = {
            "severity": record.levelname,
            "message": record.getMessage(),
            "time": written(record.created),
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
            return orjson.dumps(entry, default=str, option=orjson.OPT_UTC_Z)
        except orjson.JSONEncodeError:  # what no UTF-8 can hold, or an integer of more than 64 bits
            return json.dumps(entry, default=str).encode()


class CloudHandler(logging.Handler):
    """Writes each line at once, unless it is followed at once by another: then several, in one call to the system.

    Any line writes those before it, whoever logs it. What a process that is killed may not have written are lines
    of its last `log_together`.
    """

    def __init__(self, output: BinaryIO, formatter: CloudFormatter) -> None:
        super().__init__()
        self._output = output
        self._line = formatter.line
        self._unwritten = bytearray()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            try:
                self._add(self._line(record))
            finally:  # a line that cannot be formatted holds back none of those before it
                if not getattr(record, "is_followed", False):
                    self.flush()
        except Exception:  # as logging.StreamHandler does
            self.handleError(record)

    def _add(self, line: bytes) -> None:
        if len(self._unwritten) + len(line) >= PIPE_BYTES:
            self.flush()
        self._unwritten += line
        self._unwritten += b"\n"

    def flush(self) -> None:
        if self._unwritten:
            unwritten, self._unwritten = self._unwritten, bytearray()
            self._output.write(unwritten)
            self._output.flush()


class TogetherHandler(logging.Handler):
    """Formats each line once for several outputs, which get lines that follow each other at once as one text.

    A rotating file looks for its file and its size with each text: for each line of a tick, that took 20 µs.
    """

    def __init__(self, outputs: Sequence[logging.Handler], formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._outputs = outputs
        self._unwritten: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            try:
                self._unwritten.append(self.format(record))
            finally:  # as CloudHandler does
                if not getattr(record, "is_followed", False):
                    self.flush()
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        if self._unwritten:
            lines, self._unwritten = self._unwritten, []
            text = logging.makeLogRecord({"msg": "\n".join(lines)})
            for output in self._outputs:
                output.handle(text)

    def close(self) -> None:
        for output in self._outputs:
            output.close()
        super().close()


@lru_cache(maxsize=1)
def local_time(created: float) -> str:
    return f"{datetime.fromtimestamp(created).astimezone():%H:%M:%S}"


class LocalFormatter(logging.Formatter):
    """A line for people: local time, the level unless it is INFO, and the message."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        line = f"{local_time(record.created)} {level}{record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
