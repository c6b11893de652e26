"""The demo's check of memberships: one person joins, changes and leaves, and the bot's own list follows.

Used by `--once`. The person and the owner use pages of the portal; the bot is asked directly.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path

import docker
import requests
import sqlalchemy as sa

from demo.bot_from_template import SLUG
from demo.checks.form_browser import FormBrowser
from demo.checks.visitors import PortalVisitor
from demo.config import DemoConfig
from demo.processes import DemoError, wait_until
from portal.database import Database
from portal.models import Bot, BotPhase, BotState, Membership, Org, User

_TEAM = f"/o/{SLUG}/team"
_SECONDS = 90.0


def check_memberships(config: DemoConfig, engine: docker.APIClient, database: Database) -> None:
    """Invite a person, raise and lower the role, and remove the person while the bot is stopped.

    Raises:
        DemoError: the portal refuses a step, or the bot does not follow in time; the message names the step.
    """
    print("\nA person joins an organization, and the bot follows:", flush=True)
    _MembershipCheck(config, engine, database).run()


class _MembershipCheck:
    def __init__(self, config: DemoConfig, engine: docker.APIClient, database: Database) -> None:
        self._config = config
        self._engine = engine
        self._database = database
        self._email = f"nora-{time.time_ns()}@{SLUG}.example"
        self._owner = FormBrowser(config.base_url)

    def run(self) -> None:
        self._owner.submit("/login", "/login", email=f"owner@{SLUG}.example", password=self._config.operator_password)
        self._join()
        self._expect("joins as a member", ("member", False))
        person = PortalVisitor(self._config.base_url, self._email, self._config.operator_password)
        at_bot = person.open_bot(SLUG, self._load_bot().subdomain)
        print(f"  the bot greets the person: {at_bot.read_greeting()}", flush=True)
        self._set_role("admin")
        self._expect("becomes an admin", ("admin", True))
        self._set_role("member")
        self._expect("becomes a member again", ("member", False))
        self._remove_while_stopped()
        self._expect("is removed, and the bot was started", None)
        if at_bot.get("/").status_code == 200:
            raise DemoError("the removed person can still open the bot")
        self._wait_for_page("the end of the access", "Access ended this week")

    def _join(self) -> None:
        """Let the owner invite the person, and the person follow the link in the mail."""
        self._owner.submit(_TEAM, "/team/invites", email=self._email, role="member")
        folder = self._config.folder / "mails"
        wait_until(lambda: _find_link(folder, self._email) is not None, "the invite was not mailed", _SECONDS)
        link = str(_find_link(folder, self._email)).removeprefix(self._config.base_url)
        person = FormBrowser(self._config.base_url)
        person.open(link)
        person.submit("/invite", "/invite/join", name="Nora New", password=self._config.operator_password)

    def _set_role(self, role: str) -> None:
        self._owner.submit(f"{_TEAM}?q={self._email}", f"/team/{self._load_membership().id}/role", role=role)

    def _remove_while_stopped(self) -> None:
        """Stop the container, remove the person, read what the team page says, and start the container."""
        container = str(self._load_bot().container_id)
        self._engine.stop(container)
        wait_until(lambda: self._load_bot().state is BotState.STOPPED, "the stop was not noticed", _SECONDS)
        removal = f"{_TEAM}/{self._load_membership().id}/remove"
        self._owner.submit(removal, "/remove")
        self._wait_for_page("the pending removal", "Access still ending", "The bot is stopped.")
        print("  the bot is stopped: the team page shows the pending removal", flush=True)
        self._engine.start(container)

    def _wait_for_page(self, what: str, *texts: str) -> None:
        def is_shown() -> bool:
            page = self._owner.open(_TEAM)
            return self._email in page and all(text in page for text in texts)

        wait_until(is_shown, f"the team page did not show {what}", _SECONDS)

    def _expect(self, step: str, expected: tuple[str, bool] | None) -> None:
        """Wait until the bot lists the person with this role and right of an instance admin, or not at all."""
        seconds = _measure(lambda: self._ask_bot() == expected, f"the bot did not follow when the person {step}")
        print(f"  {step}: the bot knows it after {seconds:.1f} s", flush=True)

    def _ask_bot(self) -> tuple[str, bool] | None:
        bot = self._load_bot()
        secret = {"Authorization": f"Bearer {bot.provision_secret['current']}"}
        url = f"http://{bot.address}/internal/members"
        try:
            answer = requests.get(url, {"companyId": str(bot.company_id)}, headers=secret, timeout=5)
            answer.raise_for_status()
        except requests.RequestException:
            return ("no answer", False)
        user_id = self._load_user_id()
        found = [member for member in answer.json()["members"] if member["userId"] == user_id]
        return (found[0]["role"], found[0]["instanceAdmin"]) if found else None

    def _load_bot(self) -> Bot:
        with self._database.reading() as session:
            active = sa.select(Bot).join(Bot.org).where(Org.slug == SLUG, Bot.phase == BotPhase.ACTIVE)
            return session.scalars(active.order_by(Bot.created_at).limit(1)).one()

    def _load_user_id(self) -> str:
        with self._database.reading() as session:
            return session.scalars(sa.select(User.id).where(User.email_normalized == self._email)).one()

    def _load_membership(self) -> Membership:
        with self._database.reading() as session:
            of_person = sa.select(Membership).join(User, User.id == Membership.user_id)
            return session.scalars(of_person.where(User.email_normalized == self._email)).one()


def _measure(is_done: Callable[[], bool], failure: str) -> float:
    started = time.monotonic()
    wait_until(is_done, failure, _SECONDS, interval=0.1)
    return time.monotonic() - started


def _find_link(folder: Path, email: str) -> str | None:
    """Return the link of the invite in the mail to an address, or None while there is no mail."""
    for file in folder.glob("*/*"):
        message = message_from_bytes(file.read_bytes(), policy=policy.default)
        body = message.get_body(("plain",))
        if email in str(message["To"]) and body is not None:
            found = re.search(r"http\S+/invite/[\w-]+", body.get_content())
            return found[0] if found else None
    return None
