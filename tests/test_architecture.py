"""The direction of imports: views use services, services use models, rules use nothing, the portal never the daemon.

The layers are those of `docs/architecture.md`. A package may import packages of the lines above its own line, and
packages of its own line only where the line names a single package.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.paths import ROOT

FORBIDDEN: dict[str, tuple[str, ...]] = {
    "portal": ("daemon", "demo", "tests"),
    "portal/models": ("portal.services", "portal.views", "portal.forms", "portal.web", "flask"),
    "portal/rules": ("portal.models", "portal.services", "portal.views", "flask", "sqlalchemy", "redis", "requests"),
    "portal/services": ("portal.views", "portal.forms", "portal.web", "portal.app", "flask"),
    "portal/views": ("sqlalchemy", "portal.web.extensions.db"),
    "portal/forms": ("sqlalchemy", "portal.services", "portal.views"),
    "portal/web": ("portal.forms",),
    "daemon": ("portal.views", "portal.forms", "portal.web", "demo", "tests"),
}
"""Folder, and what no file below it may import."""

SERVICES: tuple[tuple[str, ...], ...] = (
    ("errors", "events", "leases", "paging"),
    ("fleet_settings",),
    ("mail",),
    ("audit",),
    ("accounts",),
    ("orgs",),
    ("account_changes",),
    ("releases",),
    ("bots",),
    ("rollouts",),
    ("lookup", "retention"),
)
"""Modules and packages of `portal/services`, the lowest first."""

DAEMON: tuple[tuple[str, ...], ...] = (
    ("errors", "context", "embedded_redis", "bot_lease"),
    ("engine",),
    ("registry",),
    ("snapshots",),
    ("update",),
    ("bots",),
    ("rollout", "mail"),
    ("jobs",),
    ("scheduler", "worker"),
    ("doctor",),
    ("commands",),
    ("cli",),
)
"""Modules and packages of `daemon`, the lowest first."""


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


def members(folder: Path) -> set[str]:
    """Names of the modules and packages directly in a folder."""
    return {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()} - {
        "__init__",
        "__pycache__",
    }


def upward(folder: str, layers: tuple[tuple[str, ...], ...], root: Path = ROOT) -> list[str]:
    """Imports of a member of `folder` that is in a higher layer, or beside the importing one in the same layer."""
    package = folder.replace("/", ".")
    found = set()
    for height, layer in enumerate(layers):
        for member in layer:
            allowed = {name for lower in layers[:height] for name in lower} | {member}
            files = [root / folder / f"{member}.py", *(root / folder / member).rglob("*.py")]
            for path in filter(Path.exists, files):
                used = {
                    name.split(".")[len(package.split("."))]
                    for name in imports(path)
                    if name.startswith(f"{package}.")
                }
                found |= {f"{path.relative_to(root)} imports {name}" for name in used - allowed}
    return sorted(found)


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_go_one_way(folder: str) -> None:
    assert breaches(folder, FORBIDDEN[folder]) == []


@pytest.mark.parametrize(("folder", "layers"), [("portal/services", SERVICES), ("daemon", DAEMON)])
def test_no_package_imports_one_above_it(folder: str, layers: tuple[tuple[str, ...], ...]) -> None:
    assert {name for layer in layers for name in layer} == members(ROOT / folder), "name new members in a layer"
    assert upward(folder, layers) == []


def test_a_breach_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "wrong.py").write_text("def late():\n    from portal.services import bots\n")
    assert breaches("rules", ("portal.services",), tmp_path) == [
        "rules/wrong.py imports portal.services",
        "rules/wrong.py imports portal.services.bots",
    ]


def test_an_upward_import_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "low").mkdir(parents=True)
    (tmp_path / "low" / "base.py").write_text("from low.top import x\n")
    (tmp_path / "low" / "top.py").write_text("from low import base\n")
    assert upward("low", (("base",), ("top",)), tmp_path) == ["low/base.py imports top"]
