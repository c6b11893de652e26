"""The member table by a state machine: random calls of a platform that also sends late and repeated ones."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from demo.reference_bot import members
from demo.reference_bot.configuration import Configuration
from demo.reference_bot.database import LATEST_SCHEMA, Database
from demo.reference_bot.provision_api import Answer, Call, ProvisionApi
from demo.reference_bot.roles import GRANTS, ROLES

SECRET = "secret"
TENANTS = ("acme", "beta", "corp")
USERS = ("u0", "u1", "u2", "u3")
tenants, users, roles = st.sampled_from(TENANTS), st.sampled_from(USERS), st.sampled_from(ROLES)
versions = st.none() | st.integers(1, 12)

GONE = None
"""The role of a user who was removed."""


class MemberTable(RuleBasedStateMachine):
    """Compares the bot with a model: for each company, the role and version of each user who was ever in it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.companies: dict[str, str] = {}
        self.table: dict[tuple[str, str], tuple[str | None, int]] = {}
        self.names: dict[str, str] = {}

    @initialize()
    def start(self) -> None:
        self.database = Database(self.folder / "bot.db")
        self.database.migrate(LATEST_SCHEMA)
        self.api = ProvisionApi(self.database, Configuration(secrets=(SECRET,)))
        self.take_snapshot()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule()
    def take_snapshot(self) -> None:
        self.snapshot = (self.folder / "bot.db").read_bytes(), copy.deepcopy((self.companies, self.table, self.names))

    @rule()
    def roll_back(self) -> None:
        content, model = self.snapshot
        (self.folder / "bot.db").write_bytes(content)
        self.companies, self.table, self.names = copy.deepcopy(model)

    @rule(tenant=tenants, user=users)
    def provision(self, tenant: str, user: str) -> None:
        admin = self.person(user, "name of the owner")
        status, answer = self.call(
            "POST",
            "/internal/provision",
            tenantId=tenant,
            tenantName=tenant,
            gatewayUrl="",
            apiKey="",
            budgetCents=0,
            adminUser=admin,
        )
        assert status == 201
        if tenant in self.companies:
            assert answer["tenantEntityId"] == self.companies[tenant]
        else:
            self.companies[tenant] = answer["tenantEntityId"]
            self.table[tenant, user] = ("owner", 0)
            self.names[user] = admin["name"]

    @precondition(lambda self: self.companies)
    @rule(tenant=tenants)
    def tear_down(self, tenant: str) -> None:
        status, _ = self.call("DELETE", "/internal/provision", tenantEntityId=self.company(tenant))
        assert status == (200 if tenant in self.companies else 404)
        self.companies.pop(tenant, None)
        self.table = {key: value for key, value in self.table.items() if key[0] != tenant}

    @rule(tenant=tenants, user=users, role=roles, version=versions, name=st.sampled_from(("Ann", "Zoë")))
    def add(self, tenant: str, user: str, role: str, version: int | None, name: str) -> None:
        content = {"user": self.person(user, name), "role": role, "version": version}
        self.change("add", (tenant, user), role, content)

    @rule(tenant=tenants, user=users, version=versions)
    def remove(self, tenant: str, user: str, version: int | None) -> None:
        self.change("remove", (tenant, user), GONE, {"userId": user, "version": version})

    @rule(tenant=tenants, user=users, role=roles, version=versions)
    def change_role(self, tenant: str, user: str, role: str, version: int | None) -> None:
        content = {"userId": user, "role": role, "version": version}
        self.change("change-role", (tenant, user), role, content)

    @invariant()
    def lists_are_right(self) -> None:
        for tenant, company in self.companies.items():
            status, answer = self.call("GET", "/internal/members", companyId=company)
            assert status == 200
            expected = {
                user: {
                    "role": role,
                    "grants": list(GRANTS[role]),
                    "instanceAdmin": self.is_instance_admin(user),
                    **({"version": version} if version else {}),
                }
                for (key, user), (role, version) in self.table.items()
                if key == tenant and role is not GONE
            }
            assert {member.pop("userId"): member for member in answer["members"]} == expected

    @invariant()
    def strangers_are_erased_and_names_are_current(self) -> None:
        known = {user for (_, user), (role, _) in self.table.items() if role is not GONE}
        with self.database.read() as connection:
            stored = {name for (name,) in connection.execute("SELECT id FROM users")}
            for user in USERS:
                memberships = members.list_memberships(connection, user)
                assert {member.person.name for member in memberships} == (
                    {self.names[user]} if user in known else set()
                )
        assert stored == known

    def change(self, call: str, key: tuple[str, str], role: str | None, content: dict[str, Any]) -> None:
        """Make a change of one member, and compare the answer with the model."""
        tenant, user = key
        version = content["version"]
        status, answer = self.call("POST", f"/internal/members/{call}", companyId=self.company(tenant), **content)
        old_role, old_version = self.table.get(key, (GONE, 0))
        if tenant not in self.companies:
            assert status == 404
        elif version is not None and version < old_version:
            assert (status, answer) == (409, {"error": "stale"})
        elif call == "change-role" and old_role is GONE:
            assert status == 404
        else:
            assert (status, answer) == (200, {"ok": True})
            self.table[key] = (role, max(old_version, version or 0))
            if call == "add":
                self.names[user] = content["user"]["name"]

    def is_instance_admin(self, user: str) -> bool:
        """Whether the user is owner or admin anywhere, by the model."""
        return any(role in {"owner", "admin"} for (_, key), (role, _) in self.table.items() if key == user)

    def company(self, tenant: str) -> str:
        """Return the id of the tenant's company, or one that does not exist."""
        return self.companies.get(tenant, f"no company of {tenant}")

    def person(self, user: str, name: str) -> dict[str, str]:
        """Return a person as the protocol describes them."""
        return {"id": user, "email": f"{user}@example.org", "name": name}

    def call(self, method: str, path: str, **content: Any) -> tuple[HTTPStatus, dict[str, Any]]:
        """Send a call without HTTP."""
        call = Call(
            method=method,
            path=path,
            query=content if method == "GET" else {},
            authorization=f"Bearer {SECRET}",
            idempotency_key=None,
            read_body=json.dumps(content).encode,
        )
        answer: Answer = self.api.answer(call)
        return answer.status, answer.content


TestMemberTable = pytest.mark.slow(MemberTable.TestCase)
MemberTable.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
