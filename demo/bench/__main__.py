"""`python -m demo.bench`: measure on real parts and print tables; `make bench` calls it.

`FLOTILLA_BENCH_DATABASE` may name an empty PostgreSQL database to measure besides SQLite.
"""

from __future__ import annotations

import signal
import sys

from demo.bench import pages, polls, snapshots, ticks, updates
from demo.bench.place import open_environment
from demo.processes import MissingRequirement


def main() -> None:
    """Measure everything, one table after the other. Nothing is judged: what is too slow is for people to say."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        print("* Starting a Docker engine, a registry and Redis, and migrating databases", flush=True)
        with open_environment() as place:
            for measure in (updates.measure, snapshots.measure, ticks.measure, pages.measure, polls.measure):
                measure(place).print()
    except MissingRequirement as error:
        sys.exit(f"The benchmark stopped: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
