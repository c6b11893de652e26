"""Where the demo keeps what must be the same when it is started again: its folder, ports and secrets."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.processes import free_port
from portal.paths import ROOT

LABEL = "flotilla.demo"
"""Marks every image, container and volume the demo makes; cleaning up takes nothing else."""


@dataclass(frozen=True)
class Home:
    """The demo's folder with its ports and secrets, made at the first start."""

    folder: Path
    web_port: int
    registry_port: int
    smtp_port: int
    mail_page_port: int
    secret_key: str
    operator_password: str
    marker: str

    @property
    def labels(self) -> dict[str, str]:
        """The label of this demo's things; another checkout's demo has another value."""
        return {LABEL: self.marker}

    @property
    def registry(self) -> str:
        """The local registry's address."""
        return f"127.0.0.1:{self.registry_port}"

    @property
    def mail_url(self) -> str:
        """Where the mails of the demo are read."""
        return f"http://127.0.0.1:{self.mail_page_port}"

    @property
    def base_url(self) -> str:
        """The portal's address."""
        return f"http://127.0.0.1:{self.web_port}"


def open_home(folder: Path = ROOT / ".demo") -> Home:
    """The demo's home; remembered ports and secrets are taken again."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "home.json"
    remembered = json.loads(file.read_text()) if file.exists() else {}
    # A home of an older demo lacks what has been added since.
    values = _fresh() | remembered
    if values != remembered:
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(values, indent=2))
        partial.rename(file)
    return Home(folder=folder, **values)


def _fresh() -> dict[str, Any]:
    return {
        "web_port": free_port(),
        "registry_port": free_port(),
        "smtp_port": free_port(),
        "mail_page_port": free_port(),
        "secret_key": secrets.token_urlsafe(48),
        "operator_password": secrets.token_urlsafe(12),
        "marker": secrets.token_hex(4),
    }
