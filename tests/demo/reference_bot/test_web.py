"""The pages of the reference bot: who gets in, and who may do what."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.reference_bot.exchange import LARGEST_BODY
from demo.reference_bot.roles import GRANTS
from tests.demo.reference_bot.local_bots import ALICE, BOB, BotClient, identity, running_bot

pytestmark = pytest.mark.requests

MALLORY = {"id": "u-mallory", "email": "mallory@example.org", "name": "Mallory"}
FORM = {"email": "carol@example.org", "name": "Carol", "role": "admin"}
PATHS = ("/", "/notes", "/me", "/members", "/no-such-page")


class TestHostedMode:
    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"x-platform-user-id": ""},
            {"x-platform-user-email": ALICE["email"], "x-platform-user-name": "Alice"},
            {"x_platform_user_id": ALICE["id"]},
            {"x-user-id": ALICE["id"]},
            identity(MALLORY),
            identity(BOB),
        ],
    )
    def test_strangers_and_removed_members_do_not_get_in(
        self, bot: BotClient, path: str, headers: dict[str, str]
    ) -> None:
        company = bot.provision()
        bot.add(company, BOB, "admin")
        bot.remove(company, BOB)
        reply = bot.send("GET", path, headers=headers)
        assert reply.status == 403
        assert "You are not a member of this bot" in reply.body
        assert bot.send("POST", "/notes", b"text=intruder", headers).status == 403
        assert bot.visit("/notes", ALICE).json == {"notes": []}

    def test_two_id_headers_are_no_identity(self, bot: BotClient) -> None:
        bot.provision()
        headers = {"x-platform-user-id": ALICE["id"], "X-Platform-User-Id": ALICE["id"]}
        assert bot.send("GET", "/", headers=headers).status == 403

    def test_a_member_sees_and_adds_notes(self, bot: BotClient) -> None:
        bot.add(bot.provision(), BOB, "member")
        assert bot.visit("/notes", BOB, {"text": "water <the> plants"}).status == 303
        assert bot.visit("/notes", BOB).json == {"notes": ["water <the> plants"]}
        page = bot.visit("/", BOB).body
        assert "Hello, Bob &lt;bob@example.org&gt;." in page
        assert "water &lt;the&gt; plants" in page
        assert 'href="members"' not in page
        assert bot.visit("/members", BOB).result == (403, {"error": "only owners and admins see the members"})

    @pytest.mark.parametrize("role", ["owner", "admin"])
    def test_owners_and_admins_see_the_members_and_their_rights(self, bot: BotClient, role: str) -> None:
        bot.add(bot.provision(), BOB, role)
        assert 'href="members"' in bot.visit("/", BOB).body
        page = bot.visit("/members", BOB).body
        assert f"Bob &lt;bob@example.org&gt;: {role} (instance admin, {', '.join(GRANTS[role])})" in page

    @pytest.mark.parametrize("role", ["owner", "admin", "member"])
    def test_the_platform_alone_adds_members(self, bot: BotClient, role: str) -> None:
        company = bot.provision()
        bot.add(company, BOB, role)
        before = bot.roles(company)
        assert "<form" not in bot.visit("/members", ALICE).body
        assert bot.visit("/members", BOB, FORM).status == 404
        assert bot.roles(company) == before

    @pytest.mark.parametrize("role", ["owner", "admin", "member"])
    def test_me_tells_role_and_grants(self, bot: BotClient, role: str) -> None:
        bot.add(bot.provision(), BOB, role)
        assert bot.visit("/me", BOB).json == {
            **BOB,
            "role": role,
            "grants": list(GRANTS[role]),
            "instanceAdmin": role != "member",
        }

    @pytest.mark.parametrize("name", ['Zoë "Z" <b>', "100%", "a+b", "नेहा 👩‍💻", "x" * 80, "%41"])
    def test_odd_names_are_decoded_and_escaped(self, bot: BotClient, name: str) -> None:
        bot.provision()
        odd = {**ALICE, "name": name}
        assert bot.visit("/me", odd).json["name"] == name
        page = bot.visit("/", odd).body
        assert "<b>" not in page

    @pytest.mark.parametrize("value", ["%", "%zz", "%ff%fe", "\xff", "%00"])
    def test_a_malformed_name_does_no_harm(self, bot: BotClient, value: str) -> None:
        bot.provision()
        headers = {"x-platform-user-id": ALICE["id"], "x-platform-user-name": value}
        assert bot.send("GET", "/", headers=headers).status == 200
        assert bot.send("POST", "/notes", b"text=a", headers).status == 303

    def test_the_prefix_of_the_headers_is_a_setting(self, tmp_path: Path) -> None:
        with running_bot(tmp_path, header_prefix="x-acme-person") as bot:
            bot.provision()
            assert bot.send("GET", "/", headers=identity(ALICE)).status == 403
            assert bot.send("GET", "/", headers=identity(ALICE, "x-acme-person")).status == 200


class TestOwnMode:
    def test_everyone_is_welcome_and_manages_members(self, tmp_path: Path) -> None:
        with running_bot(tmp_path, hosted=False) as bot:
            assert "Hello, stranger." in bot.visit("/", None).body
            assert bot.visit("/members", None, FORM).status == 303
            assert bot.visit("/members", None, {**FORM, "role": "member", "name": "Caroline"}).status == 303
            page = bot.visit("/members", None).body
        assert "Caroline &lt;carol@example.org&gt;: member (tasks:assign)" in page
        assert "<form" in page

    @pytest.mark.parametrize("change", [{"email": ""}, {"name": " "}, {"role": "none"}])
    def test_a_wrong_form_is_refused(self, tmp_path: Path, change: dict[str, str]) -> None:
        with running_bot(tmp_path, hosted=False) as bot:
            reply = bot.visit("/members", None, FORM | change)
            assert (reply.status, [reply.json["field"]]) == (422, list(change))
            assert "carol" not in bot.visit("/members", None).body


def test_head_has_headers_without_a_body(bot: BotClient) -> None:
    bot.provision()
    reply = bot.send("HEAD", "/", headers=identity(ALICE))
    assert (reply.status, reply.body) == (200, "")
    assert int(reply.headers["Content-Length"]) > 100


@pytest.mark.parametrize("path", ["/internal", "/Internal/provision", "/internal%2fprovision", "/nowhere"])
def test_other_addresses_do_not_exist(bot: BotClient, path: str) -> None:
    bot.provision()
    assert bot.send("GET", path, headers=identity(ALICE)).status == 404


def test_notes_have_limits(bot: BotClient) -> None:
    bot.provision()
    assert bot.visit("/notes", ALICE, {"text": ""}).status == 422
    assert bot.visit("/notes", ALICE, {"text": "x" * LARGEST_BODY}).status == 413
    assert bot.send("POST", "/notes", b"text=%ff", identity(ALICE)).status == 303
    assert bot.visit("/notes", ALICE).json == {"notes": ["\ufffd"]}
