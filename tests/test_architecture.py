"""The direction of imports between packages and layers.

Views use services, services use models, rules use neither, and the portal never uses the daemon. A package may import
the packages of lower layers, but not other packages of the same layer. `docs/architecture.md` shows the layers.
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
    "portal/gateway": ("portal.views", "portal.forms", "portal.web", "portal.app", "flask"),
    "portal/gateway/http": ("portal.database", "portal.models", "portal.services", "sqlalchemy", "redis"),
    "daemon": ("portal.views", "portal.forms", "portal.web", "demo", "tests"),
}
"""For each folder, the modules that no file in it may import."""

SERVICES: tuple[tuple[str, ...], ...] = (
    ("alert_outbox", "changes"),
    ("errors", "events", "leases", "paging"),
    ("fleet_settings",),
    ("mail",),
    ("fork_syncs",),
    ("audit",),
    ("alerts",),
    ("accounts",),
    ("orgs",),
    ("account_changes",),
    ("releases",),
    ("syncs",),
    ("bots",),
    ("rollouts",),
    ("gateway",),
    ("backups", "global_search", "lookup", "retention", "weekly_summary"),
)
"""Modules and packages of `portal/services` by layer, lowest first."""

DAEMON: tuple[tuple[str, ...], ...] = (
    ("network",),
    ("errors", "context", "embedded_redis", "bot_lease", "isolated_tasks", "messages", "rehearsal"),
    ("provision",),
    ("engine", "upstream"),
    ("registry",),
    ("conformance", "snapshots"),
    ("update",),
    ("bots",),
    ("alerts", "mail", "rollout"),
    ("jobs",),
    ("rq_worker",),
    ("scheduler", "worker"),
    ("node_check",),
    ("doctor",),
    ("commands",),
    ("cli",),
)
"""Modules and packages of `daemon` by layer, lowest first."""


def find_imports(path: Path) -> Iterator[str]:
    """Yield all modules that a file imports, and the names that it imports from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_forbidden_imports(folder: str, forbidden: tuple[str, ...], root: Path = ROOT) -> list[str]:
    """Return the forbidden imports of all files in a folder, as `file imports module`."""
    return sorted(
        {
            f"{path.relative_to(root)} imports {name}"
            for path in (root / folder).rglob("*.py")
            for name in find_imports(path)
            if any(name == module or name.startswith(f"{module}.") for module in forbidden)
        }
    )


def list_members(folder: Path) -> set[str]:
    """Return the names of the modules and packages directly in a folder."""
    return {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()} - {
        "__init__",
        "__pycache__",
    }


def find_upward_imports(folder: str, layers: tuple[tuple[str, ...], ...], root: Path = ROOT) -> list[str]:
    """Return the imports of members of a folder from their own or a higher layer, as `file imports member`."""
    package = folder.replace("/", ".")
    found = set()
    for index, layer in enumerate(layers):
        for member in layer:
            allowed = {name for lower in layers[:index] for name in lower} | {member}
            files = [root / folder / f"{member}.py", *(root / folder / member).rglob("*.py")]
            for path in filter(Path.exists, files):
                used = {
                    name.split(".")[len(package.split("."))]
                    for name in find_imports(path)
                    if name.startswith(f"{package}.")
                }
                found |= {f"{path.relative_to(root)} imports {name}" for name in used - allowed}
    return sorted(found)


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_forbidden_modules_are_not_imported(folder: str) -> None:
    assert find_forbidden_imports(folder, FORBIDDEN[folder]) == []


@pytest.mark.parametrize(("folder", "layers"), [("portal/services", SERVICES), ("daemon", DAEMON)])
def test_packages_import_lower_layers_only(folder: str, layers: tuple[tuple[str, ...], ...]) -> None:
    assert {name for layer in layers for name in layer} == list_members(ROOT / folder), "add new members to a layer"
    assert find_upward_imports(folder, layers) == []


def test_forbidden_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "wrong.py").write_text("def late():\n    from portal.services import bots\n")
    assert find_forbidden_imports("rules", ("portal.services",), tmp_path) == [
        "rules/wrong.py imports portal.services",
        "rules/wrong.py imports portal.services.bots",
    ]


def test_upward_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "low").mkdir(parents=True)
    (tmp_path / "low" / "base.py").write_text("from low.top import x\n")
    (tmp_path / "low" / "top.py").write_text("from low import base\n")
    assert find_upward_imports("low", (("base",), ("top",)), tmp_path) == ["low/base.py imports top"]
