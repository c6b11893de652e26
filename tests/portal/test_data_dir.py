"""Tests of the permissions of the data folder and the database."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from daemon import cli
from portal.data_dir import find_problem, prepare_data_dir
from portal.settings import Settings, SettingsError
from tests.daemon.processes import running, wait_until


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    """Let other accounts read new files, as most machines do."""
    previous = os.umask(0o022)
    yield
    os.umask(previous)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a data folder that does not exist yet."""
    for name in ("DATABASE_URL", "REDIS_URL", "BASE_URL", "BIND_ADDRESS", "FLOTILLA_ENV", "SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    return Settings.from_environment()


def mode_of(path: Path) -> int:
    """Return the permissions of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


def migrate() -> subprocess.CompletedProcess[str]:
    """Run the `release` process of the Procfile."""
    command = [sys.executable, "-m", "flask", "--app", "portal.wsgi:create_wsgi", "db", "upgrade"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.processes
def test_processes_create_files_that_other_accounts_cannot_access(settings: Settings, tmp_path: Path) -> None:
    assert migrate().returncode == 0
    socket = settings.data_dir / "redis.sock"
    with running("daemon.cli", "redis", log=tmp_path / "log"):
        wait_until(socket.exists, "the server listens")
        wait_until(lambda: mode_of(socket) == 0o600, "only its owner can use the socket")
    assert mode_of(settings.data_dir) == 0o700
    assert mode_of(settings.data_dir / "flotilla.db") == 0o600


def test_empty_folder_is_restricted(settings: Settings) -> None:
    settings.data_dir.mkdir()
    assert mode_of(settings.data_dir) == 0o755
    prepare_data_dir(settings)
    assert mode_of(settings.data_dir) == 0o700


def test_existing_database_is_restricted(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.db"
    settings = replace(settings, database_url=f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE secrets (id INTEGER)")
        paths = [file, *(file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))]
        assert {mode_of(path) for path in paths} == {0o644}
        prepare_data_dir(settings)
        assert {mode_of(path) for path in paths} == {0o600}


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o1777])
def test_open_folder_with_contents_is_refused_and_not_changed(settings: Settings, mode: int) -> None:
    """The folder may belong to the machine, such as /var/lib or /tmp."""
    settings.data_dir.mkdir()
    (settings.data_dir / "flotilla.db").touch()
    settings.data_dir.chmod(mode)
    with pytest.raises(SettingsError, match=f"DATA_DIR: .* run: chmod 700 {settings.data_dir}$"):
        prepare_data_dir(settings)
    assert mode_of(settings.data_dir) == mode
    settings.data_dir.chmod(0o700)
    prepare_data_dir(settings)


def test_folder_that_cannot_be_created_is_reported(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"DATA_DIR: .* cannot be used"):
        prepare_data_dir(replace(settings, data_dir=tmp_path / "file" / "data"))


def test_permissions_that_were_added_later_are_found(settings: Settings) -> None:
    prepare_data_dir(settings)
    assert find_problem(settings) is None
    (settings.data_dir / "flotilla.db").touch(0o640)
    assert "chmod 600" in str(find_problem(settings))
    settings.data_dir.chmod(0o750)
    assert "chmod 700" in str(find_problem(settings))


@pytest.mark.processes
def test_processes_do_not_start_with_an_open_folder(settings: Settings) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "flotilla.db").touch()
    release = migrate()
    doctor = subprocess.run(
        [sys.executable, "-m", cli.__name__, "doctor"], capture_output=True, text=True, check=False
    )
    assert (release.returncode, doctor.returncode) == (1, 2)
    for result in (release, doctor):
        assert f"chmod 700 {settings.data_dir}" in result.stderr
        assert "Traceback" not in result.stderr
