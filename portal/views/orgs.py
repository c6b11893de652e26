"""The organizations of the signed-in user: the list, which is the switcher's page, and making a new one."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, url_for
from werkzeug.wrappers import Response

from portal import htmx
from portal.forms.orgs import NewOrgForm
from portal.services import founding, orgs
from portal.services.errors import ConflictError, InvalidError
from portal.unit_of_work import session
from portal.views import access

pages = Blueprint("orgs", __name__, url_prefix="/orgs")

Answer = Response | str | tuple[str, int]


@pages.get("")
def index() -> str:
    """All organizations the user belongs to."""
    return render_template("orgs/list.html", orgs=orgs.of_user(session(), access.user()), fallback=None)


@pages.get("/new")
def new() -> str:
    """The form."""
    access.user()
    return render_template("orgs/new.html", form=NewOrgForm())


@pages.post("/new")
def create() -> Answer:
    """Make an organization that belongs to the user."""
    person = access.user()
    form = NewOrgForm()
    if not form.validate():
        return render_template("orgs/new.html", form=form), 422
    try:
        org = founding.create(session(), form.name.data, person, form.slug.data or "")
    except InvalidError as error:
        form[error.field or "name"].errors = [str(error)]
        return render_template("orgs/new.html", form=form), 422
    except ConflictError as error:
        form.slug.errors = [str(error)]
        return render_template("orgs/new.html", form=form), 422
    flash(f"{org.name} is yours. Invite the people you work with.", "info")
    return htmx.go_to(url_for("org.home", slug=org.slug))
