"""The trial of an image: the bot that runs, its secrets, and what it was found to offer. Used by all checks."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from daemon.conformance import provision_calls as calls
from daemon.conformance.answers import read_members, read_text
from daemon.conformance.exchange import Answer, NoAnswer, Request, exchange
from daemon.conformance.lab import Lab, RunningBot, Stopped
from daemon.conformance.options import BotOptions
from daemon.conformance.outcomes import Skipped, Violation
from daemon.conformance.provision_calls import Person
from portal.rules.container_settings import BOT_ID_VARIABLE

_BOT_ID = "conformance"
_MAX_TIMEOUTS = 3


@dataclass(frozen=True)
class Company:
    """A company that was provisioned for a check, with its owner."""

    id: str
    tenant: str
    owner: Person


@dataclass(frozen=True)
class KeptCompany:
    """A company whose data must survive, and its people with their roles; None for a person who was removed."""

    company: Company
    roles: Mapping[Person, str | None]


@dataclass
class Offer:
    """What the bot was found to offer. Checks set it, and later checks observe more through it."""

    hosted: bool = False
    """Visitors are admitted by identity headers."""
    members: bool = False
    """Members can be listed."""
    versions: bool = False
    """Older versions of calls are refused."""


@dataclass
class Trial:
    """The trial of one image. At most one bot runs at a time.

    Attributes:
        lab: where bots run.
        image: the image under test.
        options: its settings.
        earlier_image: the image to upgrade from and to roll back to, or None.
        offer: what the bot offers.
        secret: the current provision secret.
        volumes: the volumes of the bot that runs, or ran last.
        kept: what the earlier image stored, for the checks of the update.
    """

    lab: Lab
    image: str
    options: BotOptions
    earlier_image: str | None = None
    offer: Offer = field(default_factory=Offer)
    secret: str = field(default_factory=lambda: uuid.uuid4().hex, repr=False)
    volumes: str = ""
    kept: KeptCompany | None = None
    _bot: RunningBot | None = None
    _address: str | None = None
    _timeouts: int = 0
    _version: int = 0

    # Lifecycle

    @property
    def bot(self) -> RunningBot:
        """The bot that runs.

        Raises:
            Skipped: none runs.
        """
        if self._bot is None:
            raise Skipped("No bot runs.")
        return self._bot

    def start(self, image: str, **environment: str) -> None:
        """Start a bot on the current volumes, in place of the one that ran before.

        Args:
            image: the image.
            environment: the variables with secrets.
        """
        self.end()
        self._timeouts = 0
        variables = {BOT_ID_VARIABLE: _BOT_ID, **self.options.environment, **environment}
        self._bot = self.lab.start(image, self.volumes, variables)

    def secrets(self, previous: str | None = None) -> dict[str, str]:
        """Return the environment variables with the current secret and the previous one, if it is still valid."""
        variable = self.options.secret_variable
        older = {} if previous is None else {f"{variable}_PREVIOUS": previous}
        return {variable: self.secret, **older}

    def rotate_secret(self) -> str:
        """Replace the secret and return the older one."""
        older, self.secret = self.secret, uuid.uuid4().hex
        return older

    def stop(self) -> Stopped:
        """Stop the bot that runs by its stop signal, and say how it exited."""
        stopped = self.bot.stop()
        self._bot = self._address = None
        return stopped

    def end(self) -> None:
        """Kill the bot that runs, if any."""
        if self._bot is not None:
            self._bot.kill()
        self._bot = self._address = None

    # Exchanges

    def address(self) -> str:
        """Return `host:port` of the bot that runs.

        Raises:
            Violation: the bot does not run, or has no address.
        """
        if self._address is None:
            self._address = self.bot.address()
        if self._address is None:
            raise Violation(f"The bot has no address: {self.bot.problem() or 'it joined no network'}.")
        return self._address

    def send(self, request: Request) -> Answer:
        """Send a request to the bot.

        Raises:
            NoAnswer: there was no complete answer within the limits.
            Skipped: several requests got none before, so waiting again would only take time.
        """
        if self._timeouts >= _MAX_TIMEOUTS:
            raise Skipped(f"The bot left {_MAX_TIMEOUTS} requests without a complete answer.")
        try:
            return exchange(self.address(), request, self.options.answer_seconds)
        except NoAnswer as error:
            self._timeouts += error.timed_out
            if problem := self.bot.problem():
                raise NoAnswer(f"{error} {problem}") from error
            raise

    def call(self, call: str, body: object = None, *, key: str | None = None, secret: str | None = None) -> Answer:
        """Send a call of the provision protocol.

        Args:
            call: method and path.
            body: the body.
            key: the idempotency key; a new one by default.
            secret: the secret; the current one by default.
        """
        authorization = f"Bearer {secret or self.secret}"
        return self.send(calls.create_request(call, body, authorization=authorization, key=key))

    def open_page(self, headers: Mapping[str, str]) -> Answer:
        """Request the page for members with these headers only."""
        return self.send(Request("GET", self.options.page, {"Accept": "text/html", **headers}, max_bytes=None))

    # Companies and members

    def next_version(self) -> int:
        """Return a version that is higher than all before."""
        self._version += 1
        return self._version

    def provision(self, owner: Person | None = None) -> Company:
        """Provision a new company.

        Raises:
            Violation: the bot refused, or its answer is not the documented one.
        """
        person, tenant = owner or Person.create(), f"kit-{uuid.uuid4().hex[:8]}"
        answer = self.call(calls.PROVISION, calls.provision_body(tenant, person)).expect(201)
        return Company(read_text(answer, "tenantEntityId"), tenant, person)

    def add(self, company: Company, person: Person | None = None, role: str = "member") -> Person:
        """Add a person to a company and return the person.

        Raises:
            Violation: the bot refused.
        """
        added = person or Person.create()
        self.call(calls.ADD, calls.add_body(company.id, added, role, self.next_version())).expect(200)
        return added

    def change_role(self, company: Company, person: Person, role: str) -> None:
        """Change the role of a member.

        Raises:
            Violation: the bot refused.
        """
        self.call(calls.CHANGE_ROLE, calls.change_role_body(company.id, person, role, self.next_version())).expect(
            200
        )

    def remove(self, company: Company, person: Person) -> None:
        """Remove a person from a company.

        Raises:
            Violation: the bot refused.
        """
        self.call(calls.REMOVE, calls.remove_body(company.id, person, self.next_version())).expect(200)

    # Observation

    def members(self, company: Company) -> dict[str, dict[str, Any]]:
        """Return the entries of the list of members by the ids of the persons.

        Raises:
            Skipped: the bot does not list members.
        """
        if not self.offer.members:
            raise Skipped("The bot does not list members, so this cannot be observed.")
        return read_members(self.call(calls.list_members(company.id)).expect(200))

    def expect_member(self, company: Company, person: Person, role: str | None, when: str) -> None:
        """Check from outside that a person has a role in a company and may enter, or neither.

        Observes the page and the list, as far as the bot offers them.

        Args:
            company: the company.
            person: a person who is a member of no other company.
            role: the role; None if the person must not be a member.
            when: what happened before, for the message: "after the removal".

        Raises:
            Violation: the bot shows something else.
        """
        if self.offer.hosted:
            self.expect_entry(person, admitted=role is not None, when=when)
        if self.offer.members:
            found = self.members(company).get(person.id, {}).get("role")
            if found != role:
                raise Violation(f"The list of members shows the role {found} {when}, expected {role}.")

    def expect_entry(self, person: Person, *, admitted: bool, when: str) -> None:
        """Check that a person gets the page or is refused.

        Raises:
            Violation: the opposite is the case.
        """
        answer = self.open_page(calls.identity_headers(self.options.header_prefix, person, "id", "email", "name"))
        if admitted and answer.status >= 400:
            raise Violation(f"{answer} to a member {when}, expected the page.")
        if not admitted:
            answer.expect(401, 403, when=f"to a person who is not a member {when}")
