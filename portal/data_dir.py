"""The data folder and the files of the database: only the account that runs Flotilla may read them.

Used by all processes when they start, and by `flotilla doctor`.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from sqlalchemy.engine import make_url

from portal.settings import Settings, SettingsError

_OTHERS = 0o077
"""The permissions of all accounts but the owner."""


def restrict_new_files() -> int:
    """Let only this account access the files that this process creates. Return the former umask."""
    return os.umask(_OTHERS)


def prepare_data_dir(settings: Settings) -> None:
    """Create the data folder, and remove the permissions of other accounts from it and from the database.

    The permissions of a folder that has contents are not changed, because DATA_DIR may name a folder that the machine
    needs, such as /var/lib. Its owner gets the command instead.

    Raises:
        SettingsError: other accounts of the machine can read the folder or the database.
    """
    folder = settings.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_open(folder) and not any(folder.iterdir()):
            folder.chmod(0o700)
        for file in filter(_is_open, _list_database_files(settings)):
            file.chmod(0o600)
    except OSError as error:
        raise SettingsError(f"- DATA_DIR: {folder} cannot be used: {error.strerror} ({error.filename})") from None
    if problem := find_problem(settings):
        raise SettingsError(f"- DATA_DIR: {problem}")


def find_problem(settings: Settings) -> str | None:
    """Return which folder or file other accounts of the machine can access and what to do, or None."""
    if _is_open(settings.data_dir):
        folder = shlex.quote(str(settings.data_dir))
        return (
            f"other accounts of this machine can open {settings.data_dir}. "
            f"Choose a folder that only Flotilla uses, and run: chmod 700 {folder}"
        )
    for file in filter(_is_open, _list_database_files(settings)):
        return f"other accounts of this machine can open {file}. Run: chmod 600 {shlex.quote(str(file))}"
    return None


def _is_open(path: Path) -> bool:
    return path.exists() and bool(path.stat().st_mode & _OTHERS)


def _list_database_files(settings: Settings) -> list[Path]:
    """Return the paths of SQLite's file and the files next to it that contain parts of the database."""
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        return []
    return [Path(url.database + suffix) for suffix in ("", "-wal", "-shm", "-journal")]
