"""Reference bots with one fault each, which the conformance kit must find: `python -m … FAULT ROOT`.

Each fault replaces a part of the reference bot before it starts. Some faults are no violations: they leave out what
the contract only recommends.
"""

from __future__ import annotations

import atexit
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

from demo.reference_bot import __main__ as entry
from demo.reference_bot import companies, identity, members, provision_api, roles, web
from demo.reference_bot.bot import Bot
from demo.reference_bot.configuration import Configuration, read_configuration
from demo.reference_bot.fields import Fields, parse_object
from demo.reference_bot.provision_api import Answer, Call, ProvisionApi
from demo.reference_bot.server import BotHandler

ROOT = Path(sys.argv[2] if len(sys.argv) > 2 else "/")
GOOD = "good"
DRIP_SECONDS = 0.2
FAULTS: dict[str, Callable[[], None]] = {GOOD: lambda: None}


def fault(install: Callable[[], None]) -> Callable[[], None]:
    """Register a fault under the name of its function."""
    FAULTS[install.__name__] = install
    return install


def _replace(owner: object, name: str, value: object) -> None:
    """Replace a part of the reference bot."""
    setattr(owner, name, value)


def _configure(change: Callable[[Configuration], Configuration]) -> None:
    _replace(entry, "read_configuration", lambda environment: change(read_configuration(environment)))


def _answer_calls(change: Callable[[Call, Callable[[Call], Answer]], Answer]) -> None:
    """Let a function answer calls; it receives the call and the right way to answer it."""
    right = ProvisionApi.answer
    _replace(ProvisionApi, "answer", lambda self, call: change(call, partial(right, self)))


def _refuse_bodies(is_refused: Callable[[bytes], bool]) -> None:
    """Answer some bodies 422 before anything else is checked."""

    def answer(call: Call, right: Callable[[Call], Answer]) -> Answer:
        if call.method == "GET":
            return right(call)
        body = call.read_body()
        if is_refused(body):
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": "refused"})
        return right(replace(call, read_body=lambda: body))

    _answer_calls(answer)


def _change_answer(path: str, change: Callable[[Answer], Answer]) -> None:
    _answer_calls(lambda call, right: change(right(call)) if call.path == path else right(call))


# Start, health, data


@fault
def healthy_while_migrating() -> None:
    """Answer that health is ok during the migration, which takes a while."""
    right = BotHandler._route
    migrate = Bot.migrate

    def route(self: BotHandler, bot: Bot) -> None:
        if self.path == "/health":
            self.read_body()
            self.send_json(HTTPStatus.OK, {"status": "ok"})
        else:
            right(self, bot)

    def slowly(self: Bot) -> None:
        time.sleep(1)
        migrate(self)

    _replace(BotHandler, "_route", route)
    _replace(Bot, "migrate", slowly)


@fault
def health_flickers() -> None:
    """Answer every third health check with an error."""
    count = 0

    def answer(self: BotHandler, _bot: Bot) -> None:
        nonlocal count
        count += 1
        self.send_json(HTTPStatus.OK, {"status": "starting" if count % 3 == 0 else "ok"})

    _replace(BotHandler, "_answer_health", answer)


@fault
def exits_at_start() -> None:
    """Exit with a message."""
    sys.exit("no value for MAXIMUM_PATIENCE")


@fault
def never_stops() -> None:
    """Ignore the stop signal, as the first process of a container does without a handler."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _replace(signal, "signal", lambda *_: None)


@fault
def stops_with_an_error() -> None:
    """Exit with status 3 after the stop signal."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    _replace(signal, "signal", lambda *_: None)


@fault
def data_outside_of_volumes() -> None:
    """Keep the database outside of the volumes."""
    _replace(Bot, "__init__", _use_folder(Path(tempfile.mkdtemp())))


def _use_folder(data: Path) -> Callable[..., None]:
    """Return a constructor of bots that keeps data in another folder than the volume."""
    right = Bot.__init__
    return lambda self, release, configuration, _, files: right(self, release, configuration, data, files)


@fault
def data_saved_at_exit() -> None:
    """Keep the database in a folder of the machine, and copy it to the volume only at the end."""
    folder = Path(tempfile.mkdtemp())
    if (ROOT / "data" / "bot.db").exists():
        shutil.copy(ROOT / "data" / "bot.db", folder)
    _replace(Bot, "__init__", _use_folder(folder))
    atexit.register(lambda: shutil.copy(folder / "bot.db", ROOT / "data"))


@fault
def earlier_release() -> None:
    """Leave a mark that the next two faults react to."""
    (ROOT / "data" / "earlier").touch()


@fault
def loses_data_of_earlier_release() -> None:
    """Begin with an empty database when it was written by an earlier release."""
    if (ROOT / "data" / "earlier").exists():
        (ROOT / "data" / "earlier").unlink()
        (ROOT / "data" / "bot.db").unlink()


@fault
def starts_twice_only() -> None:
    """Refuse to start on volumes on which the bot has run before, such as because of a stale pid file."""
    pid_file = ROOT / "data" / "bot.pid"
    if pid_file.exists():
        sys.exit("another bot is running: /data/bot.pid exists")
    pid_file.touch()


# Secrets


@fault
def any_secret() -> None:
    """Accept every secret."""
    _replace(ProvisionApi, "_is_authorized", lambda *_: True)


@fault
def any_secret_with_the_right_beginning() -> None:
    """Compare only as many characters as were received."""
    _replace(
        ProvisionApi,
        "_is_authorized",
        lambda self, authorization: any(
            secret.startswith(authorization.removeprefix("Bearer ")) for secret in self._configuration.secrets
        ),
    )


@fault
def shape_before_secret() -> None:
    """Check the body before the secret."""
    _refuse_bodies(lambda body: body == b"{}")


@fault
def one_secret_only() -> None:
    """Ignore the previous secret."""
    _configure(lambda configuration: replace(configuration, secrets=configuration.secrets[:1]))


@fault
def remembers_old_secrets() -> None:
    """Keep accepting secrets of earlier starts."""

    def change(configuration: Configuration) -> Configuration:
        store = ROOT / "data" / "secrets"
        known = {*(store.read_text().split() if store.exists() else ()), *configuration.secrets}
        store.write_text(" ".join(known))
        return replace(configuration, secrets=tuple(known))

    _configure(change)


@fault
def open_without_secret() -> None:
    """Compare with an empty secret if none is set."""
    _configure(lambda configuration: replace(configuration, secrets=configuration.secrets or ("",)))
    _change_answer(
        provision_api.HEALTH_PATH, lambda right: Answer(right.status, {**right.content, "provisioning": False})
    )


# Visitors


@fault
def admits_everyone() -> None:
    """Show the page to every visitor."""
    _replace(identity.Caller, "is_member", True)


@fault
def admits_every_id() -> None:
    """Show the page to everyone with an id header, without asking the member table."""
    _replace(identity.Caller, "is_member", property(lambda self: bool(self.person.user_id)))


@fault
def fails_at_odd_names() -> None:
    """Fail at names that are not ASCII."""
    right = identity._read_header
    _replace(identity, "_read_header", lambda headers, name: right(headers, name).encode("ascii").decode())


@fault
def needs_an_email() -> None:
    """Admit only visitors whose email the headers contain."""
    right = identity.read_caller

    def read(headers: Any, prefix: str, database: Any) -> Any:
        caller = right(headers, prefix, database)
        return caller if f"{prefix}-email" in headers else replace(caller, memberships=())

    _replace(web, "read_caller", read)


@fault
def caches_visitors() -> None:
    """Remember who was admitted, also after a removal."""
    right, admitted = identity.read_caller, dict[str, Any]()

    def read(headers: Any, prefix: str, database: Any) -> Any:
        caller = right(headers, prefix, database)
        if caller.is_member:
            admitted[caller.person.user_id] = caller
        return admitted.get(caller.person.user_id, caller)

    _replace(web, "read_caller", read)


@fault
def not_hosted() -> None:
    """Ignore the switch of hosted mode."""
    _configure(lambda configuration: replace(configuration, hosted=False))


# Companies and members


@fault
def second_company_for_a_tenant() -> None:
    """Create a company for each provisioning."""
    right = companies.provision
    _replace(
        companies, "provision", lambda connection, tenant, *rest: right(connection, f"{tenant}-{uuid4()}", *rest)
    )


@fault
def provisioning_brings_the_owner_back() -> None:
    """Add the owner at each provisioning."""
    right = companies.provision

    def provision(connection: Any, tenant: str, company: Any, admin: Any) -> str:
        company_id = right(connection, tenant, company, admin)
        members.add_member(connection, company_id, admin, "owner", None)
        return company_id

    _replace(companies, "provision", provision)


@fault
def one_company_for_all() -> None:
    """Put all tenants into one company."""
    right = companies.provision
    _replace(companies, "provision", lambda connection, _tenant, *rest: right(connection, "the only one", *rest))


@fault
def teardown_keeps_the_company() -> None:
    """Confirm a teardown without doing it."""
    _replace(companies, "delete_company", lambda *_: None)


@fault
def budget_of_any_company() -> None:
    """Confirm budgets of companies that do not exist."""
    _replace(companies, "change_budget", lambda *_: None)


@fault
def unknown_roles_are_members() -> None:
    """Take an unknown role for a member."""
    _replace(
        Fields,
        "read_choice",
        lambda self, name, choices: value if (value := self._read(name)) in choices else "member",
    )


@fault
def unknown_fields_are_refused() -> None:
    """Refuse bodies with fields of later versions."""
    _refuse_bodies(lambda body: b"fieldOfALaterVersion" in body)


@fault
def fails_at_nested_json() -> None:
    """Let the error of deeply nested JSON through."""

    def parse(body: bytes) -> Any:
        if body.startswith(b"[[["):
            raise RecursionError
        return right(body)

    right = parse_object
    _replace(provision_api, "parse_object", parse)


@fault
def addition_keeps_the_role() -> None:
    """Leave the role of a member unchanged when the person is added again."""
    right = members.add_member

    def add(connection: Any, company: str, person: Any, role: str, version: int | None) -> None:
        query = "SELECT role FROM members WHERE company_id = ? AND user_id = ? AND role IS NOT NULL"
        row = connection.execute(query, (company, person.user_id)).fetchone()
        right(connection, company, person, row[0] if row else role, version)

    _replace(members, "add_member", add)


@fault
def removal_of_a_stranger_fails() -> None:
    """Answer 404 when the person is not a member."""
    right = members.remove_member

    def remove(connection: Any, company: str, user: str, version: int | None) -> None:
        query = "SELECT 1 FROM members WHERE company_id = ? AND user_id = ? AND role IS NOT NULL"
        if connection.execute(query, (company, user)).fetchone() is None:
            raise members.UnknownUser
        right(connection, company, user, version)

    _replace(members, "remove_member", remove)


@fault
def no_tombstones() -> None:
    """Forget the version at a removal."""
    right = members.remove_member

    def remove(connection: Any, company: str, user: str, version: int | None) -> None:
        right(connection, company, user, version)
        connection.execute("DELETE FROM members WHERE company_id = ? AND user_id = ?", (company, user))

    _replace(members, "remove_member", remove)


@fault
def demoted_people_stay_instance_admin() -> None:
    """Never take instance admin away."""
    right, ever = members._list_all, set[str]()

    def list_all(connection: Any) -> Any:
        found = right(connection)
        ever.update(member.person.user_id for _, member in found if member.instance_admin)
        return [(company, replace(member, instance_admin=member.person.user_id in ever)) for company, member in found]

    _replace(members, "_list_all", list_all)


@fault
def admins_may_delete_the_company() -> None:
    """Give admins the grants of the owner."""
    roles.GRANTS["admin"] = roles.GRANTS["owner"]


# Answers


@fault
def hangs_at_provision_health() -> None:
    """Never answer the question whether the bot can be provisioned."""
    right = BotHandler._route

    def route(self: BotHandler, bot: Bot) -> None:
        if self.path == provision_api.HEALTH_PATH:
            time.sleep(3600)
        right(self, bot)

    _replace(BotHandler, "_route", route)


def _answer_additions(answer: Callable[[BotHandler], None]) -> None:
    """Let a function answer additions in place of the bot."""
    right = BotHandler._route

    def route(self: BotHandler, bot: Bot) -> None:
        if self.path == "/internal/members/add" and bot.migrated.is_set():
            self.read_body()
            answer(self)
        else:
            right(self, bot)

    _replace(BotHandler, "_route", route)


@fault
def drips() -> None:
    """Answer additions one byte at a time, without an end."""

    def answer(self: BotHandler) -> None:
        self.send_response(HTTPStatus.OK)
        self.end_headers()
        while True:
            self.wfile.write(b" ")
            time.sleep(DRIP_SECONDS)

    _answer_additions(answer)


@fault
def answers_without_an_end() -> None:
    """Answer additions with bytes without an end."""

    def answer(self: BotHandler) -> None:
        self.send_response(HTTPStatus.OK)
        self.end_headers()
        while True:
            self.wfile.write(b" " * 65536)

    _answer_additions(answer)


@fault
def lies_about_the_length() -> None:
    """Close the connection in the middle of an answer."""

    def answer(self: BotHandler) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b'{"ok": true}')
        self.close_connection = True

    _answer_additions(answer)


@fault
def redirects() -> None:
    """Redirect additions to an address that would confirm them."""

    def answer(self: BotHandler) -> None:
        self.send(HTTPStatus.FOUND, "text/plain", b"", {"Location": "/internal/provision/health"})

    _answer_additions(answer)


@fault
def answers_with_html() -> None:
    """Answer additions with a page and status 200."""

    def answer(self: BotHandler) -> None:
        self.send_page(HTTPStatus.OK, "<h1>Welcome</h1>")

    _answer_additions(answer)


# No violations: recommendations that are left out


@fault
def no_list() -> None:
    """Do not list members."""

    def answer(call: Call, right: Callable[[Call], Answer]) -> Answer:
        if call.method == "GET" and call.path == "/internal/members":
            return Answer(HTTPStatus.NOT_FOUND, {"error": "unknown call"})
        return right(call)

    _answer_calls(answer)


@fault
def no_versions() -> None:
    """Ignore versions, as a bot may."""
    _replace(
        members,
        "_check_version",
        lambda connection, company, _user, _version: members._check_company(connection, company),
    )
    _leave_out("version")


@fault
def no_rights_in_the_list() -> None:
    """List members without grants and instance admin."""
    _leave_out("grants", "instanceAdmin")


def _leave_out(*fields: str) -> None:
    right = provision_api._describe
    _replace(
        provision_api,
        "_describe",
        lambda member: {name: value for name, value in right(member).items() if name not in fields},
    )


if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    entry.main(ROOT)
