"""The HTML of the bot's pages. Used by `web`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from .companies import Company
from .identity import Caller
from .members import Member
from .roles import ROLES

_LAYOUT = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body {{ font: 1rem/1.5 system-ui; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }}</style>
<h1>{title}</h1>
{content}
"""

_NOTE_FORM = """\
<form method="post" action="notes">
<label>New note <input name="text" required maxlength="500"></label> <button>Add note</button>
</form>
"""

_INVITE_FORM = """\
<h2>Add a member</h2>
<form method="post" action="members">
<p><label>Email <input name="email" type="email" required maxlength="254"></label></p>
<p><label>Name <input name="name" required maxlength="200"></label></p>
<p><label>Role <select name="role">{roles}</select></label></p>
<button>Add member</button>
</form>
"""

_REFUSAL = """\
<p>You are not a member of this bot. If you should be, ask the owner of your organization to invite you.</p>
"""


def render_notes(version: str, caller: Caller, notes: Iterable[str], *, show_members: bool) -> str:
    """Return the start page: a greeting, a form for a new note, all notes.

    Args:
        version: version of the release.
        caller: who is greeted.
        notes: texts of the notes.
        show_members: whether to link the page of the members.
    """
    person = caller.person
    greeting = " ".join(part for part in (person.name, person.email and f"<{person.email}>") if part)
    link = '<p><a href="members">Members</a></p>' if show_members else ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    content = f"<p>Hello, {escape(greeting or 'stranger')}.</p>\n{_NOTE_FORM}<ul>{items}</ul>\n{link}"
    return _render(f"Reference bot {version}", content)


def render_members(
    companies: Mapping[str, Company], members: Mapping[str, Iterable[Member]], *, with_form: bool
) -> str:
    """Return the page of all members and their rights.

    Args:
        companies: all companies by id.
        members: the members by the id of their company.
        with_form: whether to show the form that adds a member.
    """
    sections = "".join(_render_company(company, members[key]) for key, company in companies.items())
    options = "".join(f"<option>{role}</option>" for role in reversed(ROLES))
    form = _INVITE_FORM.format(roles=options) if with_form else ""
    return _render("Members", f'{sections}{form}<p><a href=".">Notes</a></p>')


def render_refusal() -> str:
    """Return the page for people without access."""
    return _render("No access", _REFUSAL)


def _render_company(company: Company, members: Iterable[Member]) -> str:
    rows = "".join(f"<li>{_render_member(member)}</li>" for member in members)
    return f"<h2>{escape(company.name)}</h2>\n<p>Budget: {company.budget_cents / 100:.2f}</p>\n<ul>{rows}</ul>\n"


def _render_member(member: Member) -> str:
    rights = ", ".join((*(("instance admin",) if member.instance_admin else ()), *member.grants))
    return f"{escape(member.person.name)} &lt;{escape(member.person.email)}&gt;: {member.role} ({rights})"


def _render(title: str, content: str) -> str:
    return _LAYOUT.format(title=escape(title), content=content)
