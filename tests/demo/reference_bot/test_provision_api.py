"""Every call of the provision protocol over HTTP: its answers, refusals and repetitions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from demo.reference_bot.exchange import LARGEST_BODY
from tests.demo.reference_bot.local_bots import ALICE, BOB, SECRET, BotClient, provisioning, running_bot

pytestmark = pytest.mark.requests

OK = (200, {"ok": True})
STALE = (409, {"error": "stale"})
UNKNOWN_COMPANY = (404, {"error": "unknown company"})
UNKNOWN_USER = (404, {"error": "unknown user"})
CALLS = (
    ("POST", "/provision", provisioning()),
    ("PUT", "/provision/budget", {"tenantEntityId": "c", "budgetCents": 1}),
    ("DELETE", "/provision", {"tenantEntityId": "c"}),
    ("POST", "/members/add", {"companyId": "c", "user": BOB, "role": "member"}),
    ("POST", "/members/remove", {"companyId": "c", "userId": "u"}),
    ("POST", "/members/change-role", {"companyId": "c", "userId": "u", "role": "member"}),
    ("GET", "/members?companyId=c", None),
    ("GET", "/no-such-call", None),
)


class TestSecrets:
    @pytest.mark.parametrize(("method", "path", "content"), CALLS)
    @pytest.mark.parametrize("secret", ["", "wrong", f"{SECRET}x", "Zoë", "\xff"])
    def test_a_wrong_secret_is_refused(
        self, bot: BotClient, method: str, path: str, content: object, secret: str
    ) -> None:
        reply = bot.internal(method, path, content, secret=secret)
        assert reply.result == (401, {"error": "wrong or missing secret"})
        assert reply.headers["WWW-Authenticate"] == "Bearer"
        assert bot.internal("GET", "/members?companyId=c").result == UNKNOWN_COMPANY

    @pytest.mark.parametrize("authorization", [None, SECRET, f"Basic {SECRET}", f"Bearer{SECRET}", "Bearer"])
    def test_a_malformed_header_is_refused(self, bot: BotClient, authorization: str | None) -> None:
        headers = {} if authorization is None else {"Authorization": authorization}
        assert bot.send("GET", "/internal/members?companyId=c", headers=headers).status == 401

    def test_two_secrets_are_valid_during_a_rotation(self, tmp_path: Path) -> None:
        with running_bot(tmp_path, secrets=("new", "old")) as bot:
            statuses = [
                bot.internal("GET", "/members?companyId=c", secret=secret).status
                for secret in ("new", "old", "older")
            ]
        assert statuses == [404, 404, 401]

    def test_the_secret_is_checked_before_the_body(self, bot: BotClient) -> None:
        for body in (b"{", b"x" * 20 * LARGEST_BODY):
            assert bot.send("POST", "/internal/provision", body, {"Authorization": "Bearer wrong"}).status == 401

    def test_without_a_secret_every_call_is_refused(self, tmp_path: Path) -> None:
        with running_bot(tmp_path, secrets=()) as bot:
            assert bot.internal("POST", "/provision", provisioning(), secret="").status == 401
            assert bot.send("GET", "/internal/provision/health").json["provisioning"] is False


@pytest.mark.parametrize("hosted", [True, False])
def test_health_needs_no_secret(tmp_path: Path, hosted: bool) -> None:
    with running_bot(tmp_path, hosted=hosted) as bot:
        reply = bot.send("GET", "/internal/provision/health")
    assert reply.result == (200, {"ok": True, "provisioning": True, "managed": hosted})


class TestCompanies:
    def test_provisioning_twice_answers_the_same(self, bot: BotClient) -> None:
        first = bot.internal("POST", "/provision", provisioning())
        assert first.status == 201
        assert (first.json["adminUserId"], first.json["agents"]) == (ALICE["id"], [])
        assert bot.internal("POST", "/provision", provisioning()).result == first.result
        assert bot.roles(first.json["tenantEntityId"]) == {ALICE["id"]: "owner"}

    def test_tenants_have_companies_of_their_own(self, bot: BotClient) -> None:
        acme, beta = bot.provision("t-acme"), bot.provision("t-beta", BOB)
        assert acme != beta
        assert (bot.roles(acme), bot.roles(beta)) == ({ALICE["id"]: "owner"}, {BOB["id"]: "owner"})

    def test_concurrent_provisioning_creates_one_company(self, bot: BotClient) -> None:
        with ThreadPoolExecutor(8) as threads:
            companies = set(threads.map(lambda _: bot.provision(), range(8)))
        assert len(companies) == 1

    def test_provisioning_again_undoes_no_removal_and_no_demotion(self, bot: BotClient) -> None:
        company = bot.provision()
        bot.add(company, BOB, "member")
        bot.remove(company, ALICE)
        assert (bot.provision(), bot.provision(admin=BOB)) == (company, company)
        assert bot.roles(company) == {BOB["id"]: "member"}

    def test_budget_and_name_follow_the_platform(self, bot: BotClient) -> None:
        company = bot.provision()
        content = {"tenantEntityId": company, "budgetCents": 123456, "perAgentCents": 10}
        expected = (200, {"ok": True, "tenantEntityId": company, "budgetCents": 123456})
        assert bot.internal("PUT", "/provision/budget", content).result == expected
        assert "Budget: 1234.56" in bot.visit("/members", ALICE).body
        bot.provision(tenantName="Acme <Paper>", budgetCents=100)
        page = bot.visit("/members", ALICE).body
        assert "Acme &lt;Paper&gt;" in page
        assert "Budget: 1.00" in page

    def test_teardown_deletes_company_and_members_only_there(self, bot: BotClient) -> None:
        acme, beta = bot.provision("t-acme"), bot.provision("t-beta")
        bot.add(acme, BOB, "member", version=7)
        content = {"tenantEntityId": acme}
        assert bot.internal("DELETE", "/provision", content).result == (200, {"ok": True, "tenantEntityId": acme})
        assert bot.internal("DELETE", "/provision", content).result == UNKNOWN_COMPANY
        assert bot.internal("GET", f"/members?companyId={acme}").result == UNKNOWN_COMPANY
        assert bot.add(acme, BOB, "member") == UNKNOWN_COMPANY
        assert bot.visit("/", BOB).status == 403
        assert bot.roles(beta) == {ALICE["id"]: "owner"}
        again = bot.provision("t-acme")
        assert again != acme
        assert bot.add(again, BOB, "member", version=1) == OK

    def test_unknown_company_is_not_found(self, bot: BotClient) -> None:
        bot.provision()
        for method, path, content in CALLS[1:-1]:
            assert bot.internal(method, path, content).result == UNKNOWN_COMPANY


class TestMembers:
    def test_list_tells_role_version_grants_and_instance_admin(self, bot: BotClient) -> None:
        company = bot.provision()
        bot.add(company, ALICE, "owner", version=3)
        assert bot.add(company, BOB, "member") == OK
        reply = bot.internal("GET", f"/members?companyId={company}")
        owner, member = reply.json["members"]
        assert owner.pop("grants")[-1] == "company:delete"
        assert owner == {"userId": ALICE["id"], "role": "owner", "version": 3, "instanceAdmin": True}
        assert member == {
            "userId": BOB["id"],
            "role": "member",
            "grants": ["tasks:assign"],
            "instanceAdmin": False,
        }

    def test_add_changes_name_email_and_role_of_this_member_only(self, bot: BotClient) -> None:
        acme, beta = bot.provision("t-acme"), bot.provision("t-beta")
        bot.add(acme, BOB, "member")
        bot.add(beta, BOB, "admin")
        assert bot.add(acme, {**BOB, "name": "Robert", "email": "robert@example.org"}, "member") == OK
        assert (bot.roles(acme), bot.roles(beta)) == (
            {ALICE["id"]: "owner", BOB["id"]: "member"},
            {ALICE["id"]: "owner", BOB["id"]: "admin"},
        )
        page = bot.visit("/members", ALICE).body
        assert page.count("Robert &lt;robert@example.org&gt;") == 2
        assert BOB["email"] not in page
        assert bot.add(acme, BOB, "admin") == OK
        assert bot.roles(acme)[BOB["id"]] == "admin"

    def test_removal_repeats_and_of_an_unknown_user_succeeds(self, bot: BotClient) -> None:
        company = bot.provision()
        assert bot.remove(company, BOB) == OK
        bot.add(company, BOB, "member")
        assert (bot.remove(company, BOB), bot.remove(company, BOB)) == (OK, OK)
        assert bot.roles(company) == {ALICE["id"]: "owner"}

    def test_role_of_an_unknown_or_removed_user_is_not_found(self, bot: BotClient) -> None:
        company = bot.provision()
        assert bot.change_role(company, BOB, "admin", version=1) == UNKNOWN_USER
        assert bot.add(company, BOB, "member", version=1) == OK
        bot.remove(company, BOB, version=2)
        assert bot.change_role(company, BOB, "admin", version=3) == UNKNOWN_USER
        assert bot.roles(company) == {ALICE["id"]: "owner"}

    def test_older_versions_are_stale_and_equal_ones_apply(self, bot: BotClient) -> None:
        company = bot.provision()
        assert bot.add(company, BOB, "admin", version=5) == OK
        assert bot.add(company, BOB, "member", version=4) == STALE
        assert bot.change_role(company, BOB, "member", version=4) == STALE
        assert bot.remove(company, BOB, version=4) == STALE
        assert bot.roles(company)[BOB["id"]] == "admin"
        assert bot.change_role(company, BOB, "member", version=5) == OK
        assert bot.roles(company)[BOB["id"]] == "member"

    def test_removal_keeps_its_version(self, bot: BotClient) -> None:
        company = bot.provision()
        bot.remove(company, BOB, version=2)
        assert bot.add(company, BOB, "member", version=1) == STALE
        assert bot.add(company, BOB, "member", version=3) == OK
        bot.remove(company, BOB, version=4)
        assert bot.add(company, BOB, "member", version=3) == STALE
        assert BOB["id"] not in bot.roles(company)

    def test_versions_are_counted_by_company(self, bot: BotClient) -> None:
        acme, beta = bot.provision("t-acme"), bot.provision("t-beta")
        bot.add(acme, BOB, "member", version=9)
        assert bot.add(beta, BOB, "member", version=1) == OK

    def test_a_call_without_version_keeps_the_version(self, bot: BotClient) -> None:
        company = bot.provision()
        bot.add(company, BOB, "member", version=5)
        assert bot.remove(company, BOB) == OK
        assert bot.add(company, BOB, "member", version=4) == STALE

    @pytest.mark.parametrize("demote", ["remove", "change_role"])
    def test_owner_of_one_company_and_member_of_another_loses_instance_admin(
        self, bot: BotClient, demote: str
    ) -> None:
        acme, beta = bot.provision("t-acme"), bot.provision("t-beta", BOB)
        bot.add(beta, ALICE, "member")
        assert bot.visit("/me", ALICE).json["instanceAdmin"] is True
        assert is_instance_admin(bot, beta, ALICE)
        if demote == "remove":
            bot.remove(acme, ALICE)
        else:
            bot.change_role(acme, ALICE, "member")
        me = bot.visit("/me", ALICE).json
        assert (me["role"], me["grants"], me["instanceAdmin"]) == ("member", ["tasks:assign"], False)
        assert bot.visit("/members", ALICE).status == 403
        assert not is_instance_admin(bot, beta, ALICE)

    def test_concurrent_changes_all_succeed(self, bot: BotClient) -> None:
        company = bot.provision()
        people = [{**BOB, "id": f"u-{number}"} for number in range(24)]
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda person: bot.add(company, person, "member", version=1), people))
        assert answers == [OK] * len(people)
        assert len(bot.roles(company)) == 1 + len(people)

    def test_data_of_a_user_without_membership_is_erased(self, bot: BotClient, tmp_path: Path) -> None:
        company = bot.provision()
        bot.add(company, BOB, "member")
        bot.remove(company, BOB)
        assert BOB["email"].encode() not in b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())


class TestIdempotencyKey:
    def test_a_repeated_call_gets_the_first_answer_and_changes_nothing(self, bot: BotClient) -> None:
        company = bot.provision()
        content = {"companyId": company, "user": BOB, "role": "member"}
        assert bot.internal("POST", "/members/add", content, key="k1").result == OK
        bot.remove(company, BOB)
        assert bot.internal("POST", "/members/add", content, key="k1").result == OK
        assert BOB["id"] not in bot.roles(company)
        assert bot.internal("POST", "/members/add", content, key="k2").result == OK
        assert BOB["id"] in bot.roles(company)

    def test_a_key_of_another_call_is_refused(self, bot: BotClient) -> None:
        company = bot.provision()
        bot.internal("POST", "/members/remove", {"companyId": company, "userId": "u-1"}, key="k1")
        reply = bot.internal("POST", "/members/remove", {"companyId": company, "userId": ALICE["id"]}, key="k1")
        assert (reply.status, reply.json["field"]) == (422, "Idempotency-Key")
        assert bot.roles(company) == {ALICE["id"]: "owner"}

    def test_refusals_are_not_remembered(self, bot: BotClient) -> None:
        company = bot.provision()
        content = {"companyId": company, "userId": BOB["id"], "role": "admin"}
        assert bot.internal("POST", "/members/change-role", content, key="k1").result == UNKNOWN_USER
        bot.add(company, BOB, "member")
        assert bot.internal("POST", "/members/change-role", content, key="k1").result == OK

    def test_teardown_ends_the_memory_of_the_company(self, bot: BotClient) -> None:
        first = bot.internal("POST", "/provision", provisioning(), key="k1").json["tenantEntityId"]
        content = {"tenantEntityId": first}
        assert bot.internal("DELETE", "/provision", content, key="k2").status == 200
        assert bot.internal("DELETE", "/provision", content, key="k2").status == 200
        second = bot.internal("POST", "/provision", provisioning(), key="k1").json["tenantEntityId"]
        assert second != first
        assert bot.roles(second) == {ALICE["id"]: "owner"}

    @pytest.mark.parametrize("key", ["with space", "x" * 256, "\xe9"])
    def test_a_malformed_key_is_refused(self, bot: BotClient, key: str) -> None:
        reply = bot.internal("POST", "/provision", provisioning(), key=key)
        assert (reply.status, reply.json["field"]) == (422, "Idempotency-Key")

    def test_the_secret_key_of_the_gateway_is_not_stored(self, bot: BotClient, tmp_path: Path) -> None:
        bot.internal("POST", "/provision", provisioning(apiKey="sk-very-secret"), key="k1")
        stored = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
        assert b"t-acme" in stored
        assert b"sk-very-secret" not in stored


class TestShapes:
    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"tenantId": None}, "tenantId"),
            ({"tenantId": " "}, "tenantId"),
            ({"tenantId": "x" * 201}, "tenantId"),
            ({"tenantName": 5}, "tenantName"),
            ({"tenantName": "a\x00b"}, "tenantName"),
            ({"tenantName": "a\ud800"}, "tenantName"),
            ({"gatewayUrl": []}, "gatewayUrl"),
            ({"apiKey": {}}, "apiKey"),
            ({"budgetCents": -1}, "budgetCents"),
            ({"budgetCents": 1.5}, "budgetCents"),
            ({"budgetCents": True}, "budgetCents"),
            ({"budgetCents": 2**53}, "budgetCents"),
            ({"budgetCents": float("nan")}, "budgetCents"),
            ({"adminUser": "alice"}, "adminUser"),
            ({"adminUser": {"id": "u", "email": "a@b"}}, "adminUser.name"),
            ({"adminUser": {**ALICE, "email": ["a"]}}, "adminUser.email"),
            ({"agents": {}}, "agents"),
            ({"extra": []}, "extra"),
            ({"adminUser": {**ALICE, "id": ""}}, "adminUser.id"),
        ],
    )
    def test_a_wrong_field_is_named_and_changes_nothing(
        self, bot: BotClient, change: dict[str, Any], field: str
    ) -> None:
        reply = bot.internal("POST", "/provision", provisioning(**change))
        assert (reply.status, reply.json["field"]) == (422, field)
        assert bot.visit("/", ALICE).status == 403

    @pytest.mark.parametrize("field", ["companyId", "user", "role"])
    def test_a_missing_field_is_named(self, bot: BotClient, field: str) -> None:
        content = {"companyId": bot.provision(), "user": BOB, "role": "member"}
        del content[field]
        reply = bot.internal("POST", "/members/add", content)
        assert reply.result == (422, {"error": f"{field} is missing", "field": field})

    @pytest.mark.parametrize("role", ["none", "Owner", "", None, 1, ["member"]])
    def test_an_unknown_role_is_refused(self, bot: BotClient, role: object) -> None:
        content = {"companyId": bot.provision(), "userId": ALICE["id"], "role": role}
        reply = bot.internal("POST", "/members/change-role", content)
        assert (reply.status, reply.json["field"]) == (422, "role")

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 60_000, b'{"a":' * 10_000])
    def test_a_body_that_is_no_object_is_refused(self, bot: BotClient, body: bytes) -> None:
        headers = {"Authorization": f"Bearer {SECRET}"}
        reply = bot.send("POST", "/internal/provision", body, headers)
        assert (reply.status, reply.json["field"]) == (422, "")

    @pytest.mark.parametrize("version", ["1", 0, -1, 1.5, True, 2**53])
    def test_a_wrong_version_is_refused(self, bot: BotClient, version: object) -> None:
        company = bot.provision()
        for status, answer in (
            bot.add(company, BOB, "member", version=version),
            bot.change_role(company, ALICE, "member", version=version),
            bot.remove(company, ALICE, version=version),
        ):
            assert (status, answer["field"]) == (422, "version")
        assert bot.roles(company) == {ALICE["id"]: "owner"}

    def test_a_company_may_have_no_gateway(self, bot: BotClient) -> None:
        bot.provision(gatewayUrl=None, apiKey=None)

    def test_a_large_body_is_refused(self, bot: BotClient) -> None:
        assert bot.internal("POST", "/provision", provisioning(extra={"x": "x" * LARGEST_BODY})).status == 413
        assert bot.internal("POST", "/provision", provisioning(extra={"x": "x" * (LARGEST_BODY // 2)})).status == 201

    @pytest.mark.parametrize(("length", "status"), [("-1", 400), ("two", 400), ("²", 400), ("99999999999", 413)])
    def test_a_wrong_length_is_refused(self, bot: BotClient, length: str, status: int) -> None:
        headers = {"Content-Length": length, "Authorization": f"Bearer {SECRET}"}
        assert bot.send("POST", "/internal/provision", None, headers).status == status

    def test_a_body_without_length_is_refused(self, bot: BotClient) -> None:
        headers = {"Transfer-Encoding": "chunked", "Authorization": f"Bearer {SECRET}"}
        assert bot.send("POST", "/internal/provision", None, headers).status == 411

    def test_the_list_needs_a_company(self, bot: BotClient) -> None:
        assert bot.internal("GET", "/members").result == (
            422,
            {"error": "companyId is missing", "field": "companyId"},
        )

    def test_unknown_fields_are_ignored(self, bot: BotClient) -> None:
        assert (
            bot.internal("POST", "/provision", provisioning(agents=[{"name": "a"}], somethingNew=[1])).status == 201
        )

    def test_names_in_every_script_are_stored(self, bot: BotClient) -> None:
        name = "नेहा\u200c Zoë 👩\u200d💻 ' \" % <b>"
        company = bot.provision()
        assert bot.add(company, {**BOB, "name": name}, "member") == OK
        # Without a name in the headers, the bot shows the one that it knows.
        assert bot.visit("/me", {"id": BOB["id"]}).json["name"] == name


def test_answers_are_json_with_a_length_on_one_connection(bot: BotClient) -> None:
    reply = bot.internal("POST", "/provision", provisioning())
    assert reply.headers["Content-Type"] == "application/json"
    assert int(reply.headers["Content-Length"]) == len(json.dumps(reply.json))


def is_instance_admin(bot: BotClient, company: str, user: Mapping[str, str]) -> bool:
    """Whether the list of a company calls a member an instance admin."""
    members = bot.internal("GET", f"/members?companyId={company}").json["members"]
    return bool({member["userId"]: member["instanceAdmin"] for member in members}[user["id"]])
