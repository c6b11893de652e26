"""The addresses for people: notes, members, who they are, streams. Used by the HTTP server.

In hosted mode only members get in, and the platform manages them: the form that adds members is missing and its
address does not exist. Outside hosted mode the bot trusts every caller, as on a developer's machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs

from . import companies, members, pages, streams
from .bot import Bot
from .companies import Company
from .exchange import Exchange
from .fields import Fields, InvalidField
from .identity import Caller, read_caller, require_proof
from .members import Person
from .roles import ROLES

LOCAL_TENANT = "local"
"""The tenant of the members that are added on the bot's own page."""


@dataclass(frozen=True)
class _Visit:
    """A request of a person who may enter."""

    exchange: Exchange
    bot: Bot
    caller: Caller

    @property
    def may_manage(self) -> bool:
        return self.caller.is_instance_admin or not self.bot.configuration.hosted


def answer(exchange: Exchange, bot: Bot, path: str) -> None:
    """Answer a request that is neither the platform's nor a health check.

    Args:
        exchange: the request and its connection.
        bot: the bot.
        path: the path without the query.

    Raises:
        RefusedBody: the body is too large, or its length is unknown or wrong.
    """
    caller = read_caller(exchange.headers, bot.configuration.header_prefix, bot.database)
    if bot.verifier is not None:
        caller = require_proof(caller, exchange.headers, bot.verifier)
    if bot.configuration.hosted and not caller.is_member:
        exchange.send_page(HTTPStatus.FORBIDDEN, pages.render_refusal())
        return
    method = "GET" if exchange.command == "HEAD" else exchange.command
    _ROUTES.get((method, path), _answer_not_found)(_Visit(exchange, bot, caller))


def _show_notes(visit: _Visit) -> None:
    version, notes = visit.bot.release.version, visit.bot.notes.list_texts()
    page = pages.render_notes(version, visit.caller, notes, show_members=visit.may_manage)
    visit.exchange.send_page(HTTPStatus.OK, page)


def _list_notes(visit: _Visit) -> None:
    visit.exchange.send_json(HTTPStatus.OK, {"notes": visit.bot.notes.list_texts()})


def _add_note(visit: _Visit) -> None:
    text = _read_form(visit.exchange).get("text", "")
    if not text:
        visit.exchange.send_json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": "the field text is empty"})
        return
    author = visit.caller.person
    visit.bot.notes.add(text, author.name or author.user_id or "unknown")
    _redirect(visit.exchange, ".")


def _show_caller(visit: _Visit) -> None:
    visit.exchange.send_json(HTTPStatus.OK, visit.caller.describe())


def _show_members(visit: _Visit) -> None:
    if not visit.may_manage:
        visit.exchange.send_json(HTTPStatus.FORBIDDEN, {"error": "only owners and admins see the members"})
        return
    with visit.bot.database.read() as connection:
        known = companies.list_companies(connection)
        by_company = {company_id: members.list_members(connection, company_id) for company_id in known}
    page = pages.render_members(known, by_company, with_form=not visit.bot.configuration.hosted)
    visit.exchange.send_page(HTTPStatus.OK, page)


def _add_member(visit: _Visit) -> None:
    if visit.bot.configuration.hosted:
        _answer_not_found(visit)
        return
    form = Fields(_read_form(visit.exchange))
    try:
        email, name, role = form.read_text("email", 254), form.read_text("name"), form.read_choice("role", ROLES)
    except InvalidField as error:
        content = {"error": str(error), "field": error.field}
        visit.exchange.send_json(HTTPStatus.UNPROCESSABLE_ENTITY, content)
        return
    person = Person(email, email, name)
    with visit.bot.database.write() as connection:
        company_id = companies.provision(connection, LOCAL_TENANT, Company("This instance", 0), person)
        members.add_member(connection, company_id, person, role, None)
    _redirect(visit.exchange, "members")


def _serve_websocket(visit: _Visit) -> None:
    streams.serve_websocket(visit.exchange, visit.bot.activity)


def _serve_events(visit: _Visit) -> None:
    streams.serve_events(visit.exchange, visit.bot.activity)


def _answer_not_found(visit: _Visit) -> None:
    visit.exchange.send_json(HTTPStatus.NOT_FOUND, {"error": "not found"})


_ROUTES: Mapping[tuple[str, str], Callable[[_Visit], None]] = {
    ("GET", "/"): _show_notes,
    ("GET", "/notes"): _list_notes,
    ("POST", "/notes"): _add_note,
    ("GET", "/me"): _show_caller,
    ("GET", "/members"): _show_members,
    ("POST", "/members"): _add_member,
    ("GET", "/ws"): _serve_websocket,
    ("GET", "/events"): _serve_events,
}
"""The answers by method and path."""


def _redirect(exchange: Exchange, location: str) -> None:
    exchange.send(HTTPStatus.SEE_OTHER, "text/plain", b"", {"Location": location})


def _read_form(exchange: Exchange) -> dict[str, str]:
    text = exchange.read_body().decode(errors="replace")
    return {name: values[0] for name, values in parse_qs(text).items()}
