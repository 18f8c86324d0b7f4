"""Whose the embedded PostgreSQL is: root's, who hands it to nobody, or an ordinary user's."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pg8000
import pytest

from db import embedded
from db.embedded import EmbeddedPostgres
from tests.conftest import NOT_DURABLE
from tests.integration.clusters import (
    REPOSITORY,
    SUPERVISOR,
    cluster_of,
    needs_root,
    query,
    script,
    start_in_another_process,
)


@needs_root
def test_root_gets_it_in_a_directory_that_only_root_can_enter(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with EmbeddedPostgres(tmp_path / "data", settings=NOT_DURABLE) as url:
        assert query(url, "SELECT 1") == [(1,)]
        assert cluster_of(tmp_path / "data").owner() == "nobody"


@needs_root
def test_root_gets_it_in_a_directory_that_is_open_to_all() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        with EmbeddedPostgres(Path(name), settings=NOT_DURABLE) as url:
            assert query(url, "SELECT 1") == [(1,)]


@needs_root
def test_root_gets_it_from_a_wheel_that_only_root_can_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    wheel = embedded._wheel()
    for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        if part.exists():
            shutil.copytree(part, tmp_path / part.name, ignore=shutil.ignore_patterns("include"))
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    code, said = start_in_another_process(tmp_path / "data", path + SUPERVISOR)
    assert (code, said.count("postgresql+pg8000://")) == (0, 1), said


def python_for(user: str) -> tuple[str, dict[str, str]]:
    """An interpreter that the user can run and what it needs to find the packages of this one."""
    packages = Path(pg8000.__file__).parents[1]
    environment = {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{packages}", "PYTHONDONTWRITEBYTECODE": "1"}
    for executable in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        if executable:
            try:
                command = [executable, "-c", "import db.embedded"]
                subprocess.run(
                    command, env=environment, cwd="/", check=True, stderr=subprocess.PIPE, user=user
                )
            except (OSError, subprocess.CalledProcessError):
                continue
            return executable, environment
    pytest.skip(f"no Python 3.11 that the user {user} may run: install one that is open to all users")


@needs_root
def test_an_ordinary_user_gets_it_and_root_continues_as_that_user() -> None:
    user = "daemon" if "daemon" in [entry.pw_name for entry in pwd.getpwall()] else "nobody"
    executable, environment = python_for(user)
    with tempfile.TemporaryDirectory() as name:
        shutil.chown(name, user)
        options = {"executable": executable, "env": environment | {"HOME": name}, "user": user, "group": user}
        with script(SUPERVISOR, f"{name}/data", extra_groups=[], **options) as process:
            said, errors = process.communicate("", timeout=30)
            assert process.returncode == 0, errors
            assert said.startswith("postgresql+pg8000://")
        with EmbeddedPostgres(Path(name) / "data") as url:
            assert query(url, "SELECT 1") == [(1,)]
        assert cluster_of(Path(name) / "data").owner() == user


@needs_root
def test_an_ordinary_user_is_told_when_the_directory_belongs_to_root() -> None:
    executable, environment = python_for("nobody")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        with script(SUPERVISOR, name, executable=executable, env=environment, user="nobody") as process:
            _, errors = process.communicate("", timeout=30)
    assert "Permission denied" in errors
    assert "belongs to another user, such as root, change its owner; or set DATA_DIR" in errors
