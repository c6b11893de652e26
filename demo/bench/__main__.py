"""The command `python -m demo.bench`: measure with real parts and print tables. Used by `make bench`.

With `--size`, only the benchmarks of large fleets run, which need a database and nothing else. Without it,
`FLOTILLA_BENCH_DATABASE` may be the address of an empty PostgreSQL database, to measure it besides SQLite.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping

from demo.bench import downtime, pages, polls, scanner, snapshots, syncs, ticks, web
from demo.bench.databases import BenchDatabases, open_databases
from demo.bench.environment import BenchEnvironment, open_environment
from demo.bench.gateway import speed, updates_under_load
from demo.bench.rollout import idle, simulation
from demo.bench.tables import Table
from demo.processes import MissingRequirement

BENCHMARKS: Mapping[str, Callable[[BenchEnvironment], Table]] = {
    "downtime": downtime.measure,
    "snapshots": snapshots.measure,
    "ticks": ticks.measure,
    "syncs": syncs.measure,
    "pages": pages.measure,
    "web": web.measure,
    "polls": polls.measure,
    "scanner": scanner.measure,
    "gateway": speed.measure,
    "updates-under-load": updates_under_load.measure,
    "rollout": simulation.measure,
    "idle": idle.measure,
}

SIZED: Mapping[str, Callable[[BenchDatabases, int], Table]] = {
    "ticks": ticks.measure_size,
    "pages": pages.measure_size,
    "web": web.measure_size,
    "rollout": simulation.measure_size,
    "idle": idle.measure_size,
}
"""Benchmarks of fleets of any size."""


def main() -> None:
    """Run the named benchmarks, or all, and print one table each, without judging the results."""
    options = _parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if options.size is None:
            _run(options.names)
        else:
            _run_sized(options.names, options.size, options.database)
    except MissingRequirement as error:
        sys.exit(f"The benchmark stopped: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.bench", description="Measure and print tables.")
    parser.add_argument("names", nargs="*", help=f"benchmarks; by default all: {', '.join(BENCHMARKS)}")
    parser.add_argument("--size", type=int, help=f"number of bots; only {', '.join(SIZED)} can be sized")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite", help="used with --size")
    options = parser.parse_args()
    known = BENCHMARKS if options.size is None else SIZED
    if unknown := set(options.names) - known.keys():
        parser.error(f"unknown benchmark: {', '.join(sorted(unknown))}. There are: {', '.join(known)}")
    if options.size is not None and options.size < ticks.SMALL:
        parser.error(f"--size must be at least {ticks.SMALL}")
    return options


def _run(names: list[str]) -> None:
    print("* Starting a Docker engine, a registry and Redis, and migrating databases", flush=True)
    with open_environment() as environment:
        for name in names or BENCHMARKS:
            BENCHMARKS[name](environment).print()


def _run_sized(names: list[str], size: int, database: str) -> None:
    print(f"* Adding {size} bots to a database, which takes some seconds", flush=True)
    with open_databases(database) as databases:
        for name in names or SIZED:
            SIZED[name](databases, size).print()


if __name__ == "__main__":
    main()
