"""Reference bots in this process, on folders instead of volumes, and a client for them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from demo.reference_bot.behaviour import ReleaseInfo
from demo.reference_bot.bot import Bot
from demo.reference_bot.configuration import Configuration
from demo.reference_bot.server import running_server

SECRET = "secret of the platform"
ALICE = {"id": "u-alice", "email": "alice@example.org", "name": "Alice Zoë"}
BOB = {"id": "u-bob", "email": "bob@example.org", "name": "Bob"}


@dataclass(frozen=True)
class Reply:
    """Status, headers and body of an answer."""

    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def result(self) -> tuple[int, Any]:
        """The status and the body as JSON."""
        return self.status, self.json


@dataclass(frozen=True)
class BotClient:
    """Sends requests to a bot on this machine."""

    port: int

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request on a connection for it alone."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read().decode())

    def internal(
        self, method: str, path: str, content: object = None, *, secret: str = SECRET, key: str = ""
    ) -> Reply:
        """Send a call of the provision protocol, with its path after `/internal`."""
        headers = {"Authorization": f"Bearer {secret}"} | ({"Idempotency-Key": key} if key else {})
        body = None if content is None else json.dumps(content).encode()
        return self.send(method, f"/internal{path}", body, headers)

    def provision(self, tenant: str = "t-acme", admin: Mapping[str, str] = ALICE, **more: Any) -> str:
        """Provision a company and return its id."""
        reply = self.internal("POST", "/provision", provisioning(tenant, admin, **more))
        assert reply.status == 201, reply
        return str(reply.json["tenantEntityId"])

    def add(self, company: str, user: Mapping[str, str], role: str, **more: Any) -> tuple[int, Any]:
        """Add a member."""
        return self.internal(
            "POST", "/members/add", {"companyId": company, "user": user, "role": role, **more}
        ).result

    def change_role(self, company: str, user: Mapping[str, str], role: str, **more: Any) -> tuple[int, Any]:
        """Change the role of a member."""
        content = {"companyId": company, "userId": user["id"], "role": role, **more}
        return self.internal("POST", "/members/change-role", content).result

    def remove(self, company: str, user: Mapping[str, str], **more: Any) -> tuple[int, Any]:
        """Remove a member."""
        return self.internal("POST", "/members/remove", {"companyId": company, "userId": user["id"], **more}).result

    def roles(self, company: str) -> dict[str, str]:
        """Return the roles of the members of a company by user id."""
        reply = self.internal("GET", f"/members?companyId={company}")
        assert reply.status == 200, reply
        return {member["userId"]: member["role"] for member in reply.json["members"]}

    def visit(self, path: str, user: Mapping[str, str] | None, form: Mapping[str, str] | None = None) -> Reply:
        """Send a request as the gateway does: with the identity headers of a user, or without any."""
        body = None if form is None else urlencode(form).encode()
        return self.send("GET" if form is None else "POST", path, body, identity(user) if user else {})


def provisioning(tenant: str = "t-acme", admin: Mapping[str, str] = ALICE, **more: Any) -> dict[str, Any]:
    """Return the body of a call that provisions a company."""
    return {
        "tenantId": tenant,
        "tenantName": f"Company {tenant}",
        "gatewayUrl": "https://gateway.example/v1",
        "apiKey": "key of the gateway",
        "budgetCents": 5000,
        "adminUser": dict(admin),
        **more,
    }


def identity(user: Mapping[str, str], prefix: str = "x-platform-user") -> dict[str, str]:
    """Return the identity headers of a user."""
    return {f"{prefix}-{part}": quote(value, safe="@") for part, value in user.items()}


def make_bot(root: Path, configuration: Configuration, release: ReleaseInfo | None = None) -> Bot:
    """Return a bot on two folders below `root`, which keep their content for the next bot."""
    for name in ("data", "paperclip"):
        (root / name).mkdir(exist_ok=True)
    return Bot(release or ReleaseInfo("1.0.0"), configuration, root / "data", root / "paperclip")


@contextmanager
def running_bot(
    root: Path, *, hosted: bool = True, header_prefix: str = "x-platform-user", secrets: tuple[str, ...] = (SECRET,)
) -> Iterator[BotClient]:
    """Run a migrated bot on a free port."""
    configuration = Configuration(port=0, hosted=hosted, header_prefix=header_prefix, secrets=secrets)
    bot = make_bot(root, configuration)
    with running_server(bot) as port:
        bot.migrate()
        yield BotClient(port)
