"""Benchmark of the scan for user interface that hosted mode must hide. Used by `demo.bench.__main__`."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import time
from pathlib import Path

from daemon.upstream.repository.git import Git
from daemon.upstream.scan.hosted_mode import load
from daemon.upstream.scan.scanner import scan
from demo.bench.environment import BenchEnvironment
from demo.bench.tables import Table

FILES = 10_000
_SHARES = (0.05, 0.2)
_REPETITIONS = 3
_IMPORTS = "".join(f'import {{ Part{number} }} from "../parts/part{number}";\n' for number in range(8))
_COMPONENT = """
// One row of the table
export function Row({ item }) {
  const value = useValue(item.id, "https://example.com/x");
  if (!value) return null;
  return (
    <div className="row">
      <Button onClick={() => value.open()}>Open it</Button>
      {value.items.map((entry) => <span key={entry.id}>{entry.title}</span>)}
    </div>
  );
}
"""


def measure(_environment: BenchEnvironment) -> Table:
    """Measure scans of a large user interface in which few or many files use a word."""
    head = ("files that use a word", "findings", "seconds", "processor seconds")
    table = Table(f"Scan of {FILES:,} files on {len(os.sched_getaffinity(0))} processors", head)
    for share in _SHARES:
        with tempfile.TemporaryDirectory() as folder:
            write_user_interface(Path(folder), FILES, share)
            measured = [_scan(Path(folder)) for _ in range(_REPETITIONS)]
        findings, seconds, processor_seconds = min(measured, key=lambda costs: costs[1])
        table.rows.append((f"{share:.0%}", str(findings), f"{seconds:.2f}", f"{processor_seconds:.2f}"))
    return table


def write_user_interface(folder: Path, files: int, share: float) -> None:
    """Write a repository with components of about 5 KB.

    Args:
        folder: an empty folder.
        files: number of components.
        share: share of the components that use a word; half of them have a guard.
    """
    chosen = random.Random(1)  # noqa: S311 - the same files in every run
    for number in range(files):
        path = folder / f"ui/src/pages/group{number % 100}/Page{number}.tsx"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = _IMPORTS + _COMPONENT * 12
        if chosen.random() < share:
            text += "export const form = { adapterType };\n"
            text += "if (isHosted) hide(form);\n" if chosen.random() < 0.5 else ""
        path.write_text(text)
    for arguments in (("init", "--quiet"), ("add", "--all")):
        subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def _scan(folder: Path) -> tuple[int, float, float]:
    """Scan once; return the number of findings, the duration and the processor time in seconds."""
    before, started = os.times(), time.monotonic()
    result = scan(Git(folder), load(None), frozenset())
    after = os.times()
    return len(result.findings), time.monotonic() - started, sum(after[:4]) - sum(before[:4])
