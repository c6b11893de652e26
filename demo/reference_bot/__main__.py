"""The entry point of the reference bot: read the release information, migrate, serve."""

import os
import signal
import sys
import time
from pathlib import Path

from .behaviour import Behaviour, read_release
from .corruption import corrupt_volumes
from .store import FIRST_SCHEMA, LATEST_SCHEMA, Store
from .web import BotServer

DATA = Path("/data")
FILES = Path("/paperclip")


def main() -> None:
    """Run until SIGTERM."""
    # The first process of a container ignores every signal without a handler.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    release = read_release(Path("/app/behaviour.json"))
    print(f"reference bot {release.version} starts", flush=True)
    time.sleep(release.start_seconds)
    if release.behaviour is Behaviour.CRASHING:
        sys.exit("cannot start: the configuration has no value for MAXIMUM_PATIENCE")
    if release.behaviour is Behaviour.CRASHING_LOUDLY:
        # 10 MB without a line break, NUL, and a lone surrogate
        sys.stderr.buffer.write(b"x" * 10_000_000 + b" crashed: \x00 \xed\xa0\x80")
        sys.exit(1)
    store = Store(DATA, FILES)
    if release.behaviour is Behaviour.CORRUPTING:
        corrupt_volumes(DATA, FILES)
    else:
        store.migrate(LATEST_SCHEMA if release.behaviour is Behaviour.MIGRATING else FIRST_SCHEMA)
    port = int(os.environ.get("PORT", "3100"))
    with BotServer(port, release, store, hosted=os.environ.get("HOSTED_MODE") == "1") as server:
        print(f"listening on port {port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
