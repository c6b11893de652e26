"""The persistent configuration of a demo: its folder, ports and secrets. Used by all modules of the demo."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.processes import free_port
from portal.paths import ROOT

LABEL = "flotilla.demo"
"""Label of every image, container and volume of a demo; cleaning up removes nothing without it."""


@dataclass(frozen=True)
class DemoConfig:
    """The folder, ports and secrets of one demo. They stay the same when the demo is started again.

    Attributes:
        folder: contains all data and logs of the demo.
        web_port: port of the portal.
        gateway_port: port of the gateway.
        registry_port: port of the registry.
        smtp_port: port of the mail server.
        mail_page_port: port of the page that shows the mails.
        secret_key: the setting `SECRET_KEY`.
        operator_password: password of all accounts of the demo.
        marker: value of `LABEL`; it differs between the demos of one machine.
    """

    folder: Path
    web_port: int
    gateway_port: int
    registry_port: int
    smtp_port: int
    mail_page_port: int
    secret_key: str
    operator_password: str
    marker: str

    @property
    def labels(self) -> dict[str, str]:
        """The label of this demo's images, containers and volumes."""
        return {LABEL: self.marker}

    @property
    def registry(self) -> str:
        """Host and port of the registry."""
        return f"127.0.0.1:{self.registry_port}"

    @property
    def mail_url(self) -> str:
        """Address of the page that shows the mails."""
        return f"http://127.0.0.1:{self.mail_page_port}"

    @property
    def base_url(self) -> str:
        """Address of the portal."""
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def bots_domain(self) -> str:
        """Domain of the bots' hosts. Browsers resolve all names below `localhost` to this machine."""
        return f"localhost:{self.gateway_port}"

    @property
    def database_url(self) -> str:
        """Address of the SQLite database."""
        return f"sqlite:///{self.folder / 'data' / 'flotilla.db'}"


def load_config(folder: Path = ROOT / ".demo") -> DemoConfig:
    """Read the configuration of the demo in `folder`, or create it.

    Values that the stored configuration of an older version lacks are added to it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = folder / "data"
    data.mkdir(exist_ok=True)
    data.chmod(0o700)
    file = folder / "home.json"
    stored = json.loads(file.read_text()) if file.exists() else {}
    values = _new_values() | stored
    if values != stored:
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(values, indent=2))
        partial.rename(file)
    return DemoConfig(folder=folder, **values)


def _new_values() -> dict[str, Any]:
    return {
        "web_port": free_port(),
        "gateway_port": free_port(),
        "registry_port": free_port(),
        "smtp_port": free_port(),
        "mail_page_port": free_port(),
        "secret_key": secrets.token_urlsafe(48),
        "operator_password": secrets.token_urlsafe(12),
        "marker": secrets.token_hex(4),
    }
