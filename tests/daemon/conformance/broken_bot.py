"""Reference bots with one fault each, which the conformance kit must find: `python -m … FAULT ROOT`.

Each fault replaces a part of the reference bot before it starts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from demo.reference_bot import __main__ as entry

GOOD = "good"
FAULTS: dict[str, Callable[[], None]] = {GOOD: lambda: None}

if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    entry.main(Path(sys.argv[2]))
