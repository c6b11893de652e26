"""The portal may not import the daemon, so jobs are asked for by name: each name must be one there is."""

from __future__ import annotations

import ast
from pathlib import Path

from daemon import jobs

ROOT = Path(__file__).resolve().parents[2]


def asked_for(file: Path) -> set[str]:
    """Every job that some code names."""
    nodes = ast.walk(ast.parse(file.read_text()))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if text.startswith(f"{jobs.__name__}.")}


def test_every_job_that_is_asked_for_is_there() -> None:
    files = [file for folder in ("portal", "daemon") for file in (ROOT / folder).rglob("*.py")]
    found = {str(file.relative_to(ROOT)): names for file in files if (names := asked_for(file))}

    assert {file: wrong for file, names in found.items() if (wrong := names - jobs.NAMES)} == {}
    assert {"portal/services/mail.py", "daemon/scheduler.py"} <= set(found)
