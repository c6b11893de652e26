"""The command `python -m demo.bench`: measure with real parts and print tables. Used by `make bench`.

`FLOTILLA_BENCH_DATABASE` may be the address of an empty PostgreSQL database, to measure it besides SQLite.
"""

from __future__ import annotations

import signal
import sys

from demo.bench import pages, polls, scanner, snapshots, syncs, ticks, updates
from demo.bench.environment import open_environment
from demo.processes import MissingRequirement


def main() -> None:
    """Run all benchmarks and print one table each, without judging the results."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        print("* Starting a Docker engine, a registry and Redis, and migrating databases", flush=True)
        with open_environment() as environment:
            for benchmark in (updates, snapshots, ticks, syncs, pages, polls, scanner):
                benchmark.measure(environment).print()
    except MissingRequirement as error:
        sys.exit(f"The benchmark stopped: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
