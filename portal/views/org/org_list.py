"""List of the signed-in user's organizations, and the form that creates one."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, url_for
from werkzeug.wrappers import Response

from portal.forms.orgs import NewOrgForm
from portal.models import utcnow
from portal.services.errors import ConflictError, InvalidError
from portal.services.orgs import creation, orgs
from portal.views.support import authorization
from portal.views.support.configuration import current_settings
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("orgs", __name__, url_prefix="/orgs")

Answer = Response | str | tuple[str, int]


@pages.get("")
def index() -> str:
    """List the organizations that the user belongs to."""
    return render_template(
        "org/list.html", orgs=orgs.list_for_user(session(), authorization.require_user()), fallback=None
    )


@pages.get("/new")
def new() -> str:
    """Show the form of a new organization."""
    authorization.require_user()
    return render_template("org/new.html", form=NewOrgForm())


@pages.post("/new")
def create() -> Answer:
    """Create an organization that the user owns."""
    user = authorization.require_user()
    form = NewOrgForm()
    if not form.validate():
        return render_template("org/new.html", form=form), 422
    try:
        max_owned = current_settings().max_owned_orgs
        org = creation.create_org(
            session(), form.name.data, user, form.slug.data or "", now=utcnow(), max_owned=max_owned
        )
    except InvalidError as error:
        form[error.field or "name"].errors = [str(error)]
        return render_template("org/new.html", form=form), 422
    except ConflictError as error:
        form.slug.errors = [str(error)]
        return render_template("org/new.html", form=form), 422
    flash(f"{org.name} created. Invite the people you work with.", "info")
    return htmx.go_to(url_for("org.home", slug=org.slug))
