"""Log lines: JSON in the cloud, readable on a laptop."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pytest
from werkzeug.datastructures import Headers

from functions import logs
from functions.request_id import known_by
from functions.settings import load
from tests.unit.test_settings import CLOUD

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    root.setLevel(level)


def test_the_cloud_gets_one_json_object_per_event(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(load(CLOUD))
    fields = {"task_id": "t-1", "attempt": 2}
    with known_by(Headers({"X-Request-Id": "r-1"})):
        logging.getLogger("insignia").warning("Ünicode\nand %s", "more", extra={"fields": fields})
    (line,) = capsys.readouterr().out.splitlines()
    entry = json.loads(line)
    assert entry["severity"] == "WARNING"
    assert entry["message"] == "Ünicode\nand more"
    assert entry["time"].endswith("Z")
    assert (entry["request_id"], entry["task_id"], entry["attempt"]) == ("r-1", "t-1", 2)


def test_an_exception_is_part_of_its_event(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(load(CLOUD))
    try:
        raise ValueError("wrong")
    except ValueError:
        logging.getLogger("insignia").exception("It failed.")
    (line,) = capsys.readouterr().out.splitlines()
    assert "ValueError: wrong" in json.loads(line)["exception"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Cloud-Trace-Context": f"{TRACE}/123;o=1"},
        {"X-Cloud-Trace-Context": TRACE},
        {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
    ],
)
def test_the_trace_of_the_request_is_in_its_events(
    headers: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(load(CLOUD | {"GOOGLE_CLOUD_PROJECT": "project-1"}))
    with known_by(Headers(headers)):
        logging.getLogger("insignia").info("Hello.")
    entry = json.loads(capsys.readouterr().out)
    assert entry["logging.googleapis.com/trace"] == f"projects/project-1/traces/{TRACE}"


def test_nonsense_in_the_trace_header_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(load(CLOUD))
    with known_by(Headers({"traceparent": "nonsense"})):
        logging.getLogger("insignia").info("Hello.")
    assert "logging.googleapis.com/trace" not in json.loads(capsys.readouterr().out)


def test_a_laptop_gets_readable_lines_on_stdout_and_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(load({"LOG_FILE": str(tmp_path / "logs" / "app.log")}))
    logging.getLogger("insignia").info("Delivered.")
    logging.getLogger("insignia").warning("Not delivered.")
    lines = capsys.readouterr().out.splitlines()
    assert [line[9:] for line in lines] == ["Delivered.", "WARNING Not delivered."]
    assert (tmp_path / "logs" / "app.log").read_text().splitlines() == lines


def test_lines_that_come_together_share_writes_of_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe2(os.O_DIRECT)  # what is written at once is read at once
    with os.fdopen(reader, "rb", buffering=0) as pipe, os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        logs.configure(load(CLOUD))
        logger = logging.getLogger("insignia")
        said = [f"{n}" + n * "ü" for n in range(99)]
        logs.log_together(logger, "→ %s", [(logging.INFO, (text,), {}) for text in said])
        logger.info("The end.")
        pieces = [pipe.read(2 * logs.PIPE_BYTES)]
        while b"The end." not in pieces[-1]:
            pieces.append(pipe.read(2 * logs.PIPE_BYTES))
    assert all(piece.endswith(b"\n") and len(piece) <= logs.PIPE_BYTES for piece in pieces)
    assert len(pieces) < 10
    messages = [json.loads(line)["message"] for line in b"".join(pieces).splitlines()]
    assert messages == [*(f"→ {text}" for text in said), "The end."]
    assert b"The end." not in pieces[-2]


def test_a_line_that_cannot_be_formatted_holds_back_none_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
    with os.fdopen(reader, "rb", buffering=0) as pipe, os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(logging, "raiseExceptions", False)
        logs.configure(load(CLOUD))
        lines: list[logs.Line] = [(logging.INFO, (what,), {}) for what in (2, "no")]
        logs.log_together(logging.getLogger("insignia"), "%d calls", lines)
        (line,) = (pipe.read(logs.PIPE_BYTES) or b"").splitlines()
    assert json.loads(line)["message"] == "2 calls"


def test_a_line_that_others_follow_is_written_by_any_that_none_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe2(os.O_DIRECT)
    with os.fdopen(reader, "rb", buffering=0) as pipe, os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        logs.configure(load(CLOUD))
        logger = logging.getLogger("insignia")
        for message, extra in (("first", {"is_followed": True}), ("second", None), ("third", None)):
            logger.info(message, extra=extra)
        both, third = pipe.read(logs.PIPE_BYTES), pipe.read(logs.PIPE_BYTES)
    assert [json.loads(line)["message"] for line in both.splitlines()] == ["first", "second"]
    assert json.loads(third)["message"] == "third"


def test_lines_that_come_together_are_one_text_for_the_file_of_a_laptop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    rollover = RotatingFileHandler.shouldRollover

    def noted(self: RotatingFileHandler, record: logging.LogRecord) -> int:
        texts.append(record.getMessage())
        return rollover(self, record)

    monkeypatch.setattr(RotatingFileHandler, "shouldRollover", noted)
    logs.configure(load({"LOG_FILE": str(tmp_path / "app.log")}))
    logger = logging.getLogger("insignia")
    logs.log_together(logger, "%s", [(logging.WARNING, (f"100 % of {n}",), {}) for n in range(3)])
    logger.info("The end.")
    lines = capsys.readouterr().out.splitlines()
    assert [line[9:] for line in lines] == [*(f"WARNING 100 % of {n}" for n in range(3)), "The end."]
    assert (tmp_path / "app.log").read_text().splitlines() == lines
    assert [len(text.splitlines()) for text in texts] == [3, 1]


def test_log_level_applies_and_sqlalchemy_stays_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(load(CLOUD | {"LOG_LEVEL": "DEBUG"}))
    logging.getLogger("insignia").debug("Detail.")
    logging.getLogger("sqlalchemy.engine").info("SELECT 1")
    assert len(capsys.readouterr().out.splitlines()) == 1
