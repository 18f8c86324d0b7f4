"""A process of the benchmark: a Python module that answers each line of its standard input, both in JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
KEPT = ("PATH", "HOME", "LANG", "TMPDIR")
"""What is passed on of the environment: neither proxies nor settings of Insignia."""


class BenchmarkFailed(Exception):
    """A contestant did not do its work; its figures mean nothing."""


class Child:
    """Runs `python -m module arguments`; ends when its standard input does."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str] = {},
        python: Path = Path(sys.executable),
    ) -> None:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        self._name = " ".join((module, *arguments))
        self._process = subprocess.Popen(
            [python, "-m", module, *arguments],
            cwd=ROOT,
            env=kept | dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkFailed(f"{self._name} ended with code {self._process.wait()} and no result")
        return json.loads(line)

    def ask(self, *question: object) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            pass
