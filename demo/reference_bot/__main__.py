"""The entry point of the reference bot: listen, migrate, serve until SIGTERM.

`python -m reference_bot [ROOT]`: the optional folder stands for the root of the image's file system.
"""

import os
import signal
import sys
import time
from pathlib import Path

from .behaviour import Behaviour, ReleaseInfo, read_release
from .bot import Bot
from .configuration import read_configuration
from .server import running_server


def main(root: Path) -> None:
    """Run until SIGTERM, with the volumes `data` and `paperclip` and the release information in `app` of `root`."""
    # The first process of a container ignores every signal without a handler.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    release = read_release(root / "app" / "behaviour.json")
    print(f"reference bot {release.version} starts", flush=True)
    time.sleep(release.start_seconds)
    _crash_on_purpose(release)
    bot = Bot(release, read_configuration(os.environ), root / "data", root / "paperclip")
    # The server runs in a thread, so that the health check answers during a migration, and a signal ends either.
    with running_server(bot) as port:
        print(f"listening on port {port}", flush=True)
        bot.migrate()
        if release.behaviour is Behaviour.CORRUPTING_AND_CRASHING:
            sys.exit("cannot start: the notes have an unknown format")
        print("ready", flush=True)
        # Python runs the handler of a signal between two steps of this thread. A signal that arrives just before an
        # endless wait would not end it.
        while True:
            time.sleep(0.2)


def _crash_on_purpose(release: ReleaseInfo) -> None:
    if release.behaviour is Behaviour.CRASHING:
        sys.exit("cannot start: the configuration has no value for MAXIMUM_PATIENCE")
    if release.behaviour is Behaviour.CRASHING_LOUDLY:
        # 10 MB without a line break, NUL, and a lone surrogate
        sys.stderr.buffer.write(b"x" * 10_000_000 + b" crashed: \x00 \xed\xa0\x80")
        sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "/"))
