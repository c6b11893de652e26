"""Start the bot: read who we are, migrate, serve."""

import os
import signal
import sys
import time
from pathlib import Path

from .behaviour import Behaviour, load
from .destruction import destroy
from .store import FIRST_SCHEMA, LATEST_SCHEMA, Store
from .web import BotServer

DATA = Path("/data")
FILES = Path("/paperclip")


def main() -> None:
    """Run until SIGTERM."""
    # The first process of a container ignores signals nobody handles.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    identity = load(Path("/app/behaviour.json"))
    print(f"reference bot {identity.version} starts", flush=True)
    time.sleep(identity.start_seconds)
    if identity.behaviour is Behaviour.CRASHING:
        sys.exit("cannot start: the configuration has no value for MAXIMUM_PATIENCE")
    store = Store(DATA, FILES)
    if identity.behaviour is Behaviour.CORRUPTING:
        destroy(DATA, FILES)
    else:
        store.migrate(LATEST_SCHEMA if identity.behaviour is Behaviour.MIGRATING else FIRST_SCHEMA)
    port = int(os.environ.get("PORT", "3100"))
    with BotServer(port, identity, store, hosted=os.environ.get("HOSTED_MODE") == "1") as server:
        print(f"listening on port {port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
