"""What people see: notes, members, and who they are. Used by the HTTP server.

In hosted mode only members get in, and the platform manages them: the form that adds members is missing and its
address does not exist. Outside hosted mode the bot trusts every caller, as on a developer's machine.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import parse_qs

from . import companies, members, pages
from .bot import Bot
from .companies import Company
from .exchange import Exchange
from .fields import Fields, InvalidField
from .identity import Caller, read_caller
from .members import Person
from .roles import ROLES

LOCAL_TENANT = "local"
"""The tenant of the members that are added on the bot's own page."""


def answer(exchange: Exchange, bot: Bot, path: str, body: bytes) -> None:
    """Answer a request that is neither the platform's nor a health check.

    Args:
        exchange: the request and its connection.
        bot: the bot.
        path: the path without the query.
        body: the body of the request.
    """
    hosted = bot.configuration.hosted
    caller = read_caller(exchange.headers, bot.configuration.header_prefix, bot.database)
    may_manage = caller.is_instance_admin or not hosted
    if hosted and not caller.is_member:
        exchange.send_page(HTTPStatus.FORBIDDEN, pages.render_refusal())
        return
    match ("GET" if exchange.command == "HEAD" else exchange.command, path):
        case ("GET", "/"):
            notes = bot.notes.list_texts()
            page = pages.render_notes(bot.release.version, caller, notes, show_members=may_manage)
            exchange.send_page(HTTPStatus.OK, page)
        case ("GET", "/notes"):
            exchange.send_json(HTTPStatus.OK, {"notes": bot.notes.list_texts()})
        case ("POST", "/notes"):
            _add_note(exchange, bot, caller, body)
        case ("GET", "/me"):
            exchange.send_json(HTTPStatus.OK, caller.describe())
        case ("GET", "/members") if may_manage:
            _show_members(exchange, bot)
        case ("POST", "/members") if not hosted:
            _add_member(exchange, bot, body)
        case ("GET", "/members"):
            exchange.send_json(HTTPStatus.FORBIDDEN, {"error": "only owners and admins see the members"})
        case _:
            exchange.send_json(HTTPStatus.NOT_FOUND, {"error": "not found"})


def _add_note(exchange: Exchange, bot: Bot, caller: Caller, body: bytes) -> None:
    text = _read_form(body).get("text", "")
    if not text:
        exchange.send_json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": "the field text is empty"})
        return
    bot.notes.add(text, caller.person.name or caller.person.user_id or "unknown")
    exchange.send(HTTPStatus.SEE_OTHER, "text/plain", b"", {"Location": "."})


def _show_members(exchange: Exchange, bot: Bot) -> None:
    with bot.database.read() as connection:
        known = companies.list_companies(connection)
        by_company = {company_id: members.list_members(connection, company_id) for company_id in known}
    page = pages.render_members(known, by_company, with_form=not bot.configuration.hosted)
    exchange.send_page(HTTPStatus.OK, page)


def _add_member(exchange: Exchange, bot: Bot, body: bytes) -> None:
    form = Fields(_read_form(body))
    try:
        email, name, role = form.read_text("email", 320), form.read_text("name"), form.read_choice("role", ROLES)
    except InvalidField as error:
        exchange.send_json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error), "field": error.field})
        return
    person = Person(email, email, name)
    with bot.database.write() as connection:
        company = Company("This instance", 0)
        company_id = companies.provision(connection, LOCAL_TENANT, company, person, None)
        members.add_member(connection, company_id, person, role, None)
    exchange.send(HTTPStatus.SEE_OTHER, "text/plain", b"", {"Location": "members"})


def _read_form(body: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
