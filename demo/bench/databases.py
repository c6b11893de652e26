"""Migrated, empty databases of each kind, removed afterwards. Used by the benchmarks."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from demo.platform import migrate
from demo.postgresql import running_postgres
from demo.processes import MissingRequirement
from portal.database import Database
from portal.models.encrypted import use_keys

_KINDS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@dataclass(frozen=True)
class BenchDatabases:
    """Databases for benchmarks.

    Attributes:
        folder: for the files of SQLite.
        postgresql: address of an empty PostgreSQL database; None measures SQLite only.
        kinds: the kinds that are measured, by their names for display.
    """

    folder: Path
    postgresql: str | None
    kinds: Sequence[str]

    @contextmanager
    def new(self, kind: str = "SQLite") -> Iterator[Database]:
        """Yield a migrated, empty database of this kind."""
        if kind == "PostgreSQL" and self.postgresql:
            with _dropped_afterwards(self.postgresql) as database:
                yield database
            return
        with (
            tempfile.TemporaryDirectory(dir=self.folder) as folder,
            _migrated_database(f"sqlite:///{folder}/bench.db") as new,
        ):
            yield new

    @contextmanager
    def every_kind(self) -> Iterator[dict[str, Database]]:
        """Yield a migrated, empty database of each kind, by the name of the kind."""
        with ExitStack() as stack:
            yield {kind: stack.enter_context(self.new(kind)) for kind in self.kinds}


@contextmanager
def open_databases(kind: str) -> Iterator[BenchDatabases]:
    """Prepare one kind of database, without anything else of the platform.

    PostgreSQL is the database of `FLOTILLA_BENCH_DATABASE`, or else a private server.

    Args:
        kind: `sqlite` or `postgresql`.

    Raises:
        MissingRequirement: PostgreSQL is not installed, or the database is not empty.
    """
    # The command that migrates is installed beside the Python that runs this.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ.setdefault("SECRET_KEY", secrets.token_hex(32))
    use_keys(os.environ["SECRET_KEY"])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flotilla-bench-")))
        os.environ["DATA_DIR"] = str(folder / "data")
        url = None
        if kind == "postgresql":
            url = find_postgresql() or stack.enter_context(_running_cluster())
        yield BenchDatabases(folder, url, [_KINDS[kind]])


def find_postgresql() -> str | None:
    """Return the address of the database that `FLOTILLA_BENCH_DATABASE` names, if it names one.

    Raises:
        MissingRequirement: the database is not empty.
    """
    url = os.environ.get("FLOTILLA_BENCH_DATABASE")
    if not url:
        return None
    engine = sa.create_engine(url)
    try:
        tables = sa.inspect(engine).get_table_names()
    finally:
        engine.dispose()
    if tables:
        raise MissingRequirement("the database of FLOTILLA_BENCH_DATABASE is not empty; name an empty database")
    return url


@contextmanager
def _running_cluster() -> Iterator[str]:
    with running_postgres() as url:
        yield url.replace("postgresql://", "postgresql+psycopg://")


@contextmanager
def _migrated_database(url: str) -> Iterator[Database]:
    migrate({**os.environ, "DATABASE_URL": url})
    database = Database(url)
    try:
        yield database
    finally:
        database.dispose()


@contextmanager
def _dropped_afterwards(url: str) -> Iterator[Database]:
    with _migrated_database(url) as database:
        try:
            yield database
        finally:
            # The database was empty before. Dropping only its tables would leave the functions of triggers.
            with database.engine.begin() as connection:
                connection.execute(sa.text("DROP SCHEMA public CASCADE"))
                connection.execute(sa.text("CREATE SCHEMA public"))
