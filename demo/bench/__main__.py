"""The command `python -m demo.bench`: measure with real parts and print tables. Used by `make bench`.

`FLOTILLA_BENCH_DATABASE` may be the address of an empty PostgreSQL database, to measure it besides SQLite.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping

from demo.bench import downtime, pages, polls, scanner, snapshots, syncs, ticks
from demo.bench.environment import BenchEnvironment, open_environment
from demo.bench.gateway import speed, updates_under_load
from demo.bench.tables import Table
from demo.processes import MissingRequirement

BENCHMARKS: Mapping[str, Callable[[BenchEnvironment], Table]] = {
    "downtime": downtime.measure,
    "snapshots": snapshots.measure,
    "ticks": ticks.measure,
    "syncs": syncs.measure,
    "pages": pages.measure,
    "polls": polls.measure,
    "scanner": scanner.measure,
    "gateway": speed.measure,
    "updates-under-load": updates_under_load.measure,
}


def main() -> None:
    """Run the named benchmarks, or all, and print one table each, without judging the results."""
    names = sys.argv[1:]
    if unknown := set(names) - BENCHMARKS.keys():
        sys.exit(f"Unknown benchmark: {', '.join(sorted(unknown))}. There are: {', '.join(BENCHMARKS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        print("* Starting a Docker engine, a registry and Redis, and migrating databases", flush=True)
        with open_environment() as environment:
            for name in names or BENCHMARKS:
                BENCHMARKS[name](environment).print()
    except MissingRequirement as error:
        sys.exit(f"The benchmark stopped: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
