"""Who may import whom: views use services, services use models, rules use nothing, the portal never the daemon."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FORBIDDEN: dict[str, tuple[str, ...]] = {
    "portal": ("daemon", "tests"),
    "portal/models": ("portal.services", "portal.views", "portal.forms", "flask"),
    "portal/rules": ("portal.models", "portal.services", "portal.views", "flask", "sqlalchemy", "redis", "requests"),
    "portal/services": ("portal.views", "portal.forms", "portal.app", "portal.web.extensions", "flask"),
    "portal/views": ("sqlalchemy", "portal.web.extensions.db"),
    "portal/forms": ("sqlalchemy", "portal.services", "portal.views"),
    "daemon": ("portal.views", "portal.forms", "tests"),
}
"""Folder, and what no file below it may import."""


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, with the names it takes from it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def breaches(folder: str, forbidden: tuple[str, ...], root: Path = ROOT) -> list[str]:
    """Imports below `folder` that the rules forbid, as `file imports module`."""
    return sorted(
        {
            f"{path.relative_to(root)} imports {name}"
            for path in (root / folder).rglob("*.py")
            for name in imports(path)
            if any(name == module or name.startswith(f"{module}.") for module in forbidden)
        }
    )


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_go_one_way(folder: str) -> None:
    assert breaches(folder, FORBIDDEN[folder]) == []


def test_a_breach_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "wrong.py").write_text("def late():\n    from portal.services import bots\n")
    assert breaches("rules", ("portal.services",), tmp_path) == [
        "rules/wrong.py imports portal.services",
        "rules/wrong.py imports portal.services.bots",
    ]
