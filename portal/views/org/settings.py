"""An organization's settings: its name, how it wants its updates, and the way to the danger zone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from flask import Blueprint, Response, flash, url_for
from werkzeug.wrappers import Response as BaseResponse
from wtforms import SelectChoice

from portal.forms.orgs import LiftForm, RenameForm, SeenForm, TransferForm, UpdatesForm
from portal.models import TenantMode, utcnow
from portal.policy import Action
from portal.rules.windows import Window, next_window
from portal.services.errors import InvalidError, StaleError
from portal.services.orgs import creation, member_list, transfers, update_preferences
from portal.views.support import authorization
from portal.views.support.authorization import OrgAccess
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("org_settings", __name__, url_prefix="/o/<slug>/settings")

Answer = BaseResponse | tuple[BaseResponse, int]


@pages.get("")
def show(slug: str) -> Answer:
    """Everything that can be set, and who may set it."""
    return _page(authorization.require_org(slug, Action.SET_UPDATE_PREFERENCES))


@pages.post("/name")
def rename(slug: str) -> Answer:
    """Give the organization another name."""
    access = authorization.require_org(slug, Action.SET_ORG)
    form = RenameForm()
    if not form.validate():
        return _page(access, general=form), 422
    try:
        creation.rename_org(session(), access.org, form.name.data, version=form.version.data, actor=access.user)
    except InvalidError as error:
        form.name.errors = [str(error)]
        return _page(access, general=form), 422
    except StaleError as error:
        return _page(access, refusal={"general": str(error)}), 409
    flash("The name is saved.", "info")
    return htmx.go_to(url_for("org_settings.show", slug=slug))


@pages.post("/updates")
def set_updates(slug: str) -> Answer:
    """Set how and when the organization's bots are updated; operators decide on its behalf."""
    access = authorization.require_org(slug, Action.SET_UPDATE_PREFERENCES)
    form = UpdatesForm()
    if not form.validate():
        return _page(access, updates=form), 422
    choose = update_preferences.set_preferences if access.belongs else update_preferences.set_override
    try:
        update_preferences.require_current_version(session(), access.org, form.version.data)
    except StaleError as error:
        return _page(access, refusal={"updates": str(error)}), 409
    choose(session(), access.org, TenantMode(form.mode.data), form.hour.data, access.user)
    flash("How updates happen is saved.", "info")
    return _done(access)


@pages.post("/updates/own")
def lift_override(slug: str) -> Answer:
    """Let the organization decide about its updates again."""
    access = authorization.require_org(slug, Action.OVERRIDE_UPDATE_PREFERENCES)
    form = LiftForm()
    if not form.validate():
        return _page(access, refusal={"updates": " ".join(form.version.errors)}), 422
    try:
        update_preferences.require_current_version(session(), access.org, form.version.data)
    except StaleError as error:
        return _page(access, refusal={"updates": str(error)}), 409
    update_preferences.lift_override(session(), access.org, access.user)
    flash(f"{access.org.name} decides about its updates again.", "info")
    return _done(access)


def _done(access: OrgAccess) -> Answer:
    if htmx.is_fragment():
        return _page(access)
    return htmx.see_other(url_for("org_settings.show", slug=access.org.slug))


def _page(
    access: OrgAccess,
    *,
    general: RenameForm | None = None,
    updates: UpdatesForm | None = None,
    refusal: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    org, now = access.org, utcnow()
    preferences = update_preferences.get_preferences(session(), org)
    return htmx.page(
        "org/settings.html",
        parts={"general": "org/_general.html", "updates": "org/_updates.html"},
        access=access,
        org=org,
        refusal=refusal,
        general=general or _fresh(RenameForm, name=org.name, version=org.version),
        updates=updates
        or _fresh(UpdatesForm, mode=str(preferences.mode), hour=preferences.hour_utc, version=preferences.version),
        lift=_fresh(LiftForm, version=preferences.version),
        preferences=preferences,
        managed=preferences.overridden_by_operator and access.belongs,
        window=_window(preferences, now),
        transfer=_transfer_form(access),
        offered_to=transfers.find_offered_user(session(), org, now),
    )


def _fresh(form: type[SeenForm], **values: object) -> SeenForm:
    """A form that shows what is stored, whatever was posted."""
    return form(formdata=None, **values)


def _window(preferences: update_preferences.Preferences, now: datetime) -> Window | None:
    return next_window(preferences.hour_utc, now) if preferences.mode is TenantMode.AUTO else None


def _transfer_form(access: OrgAccess) -> TransferForm:
    form = TransferForm(formdata=None)
    people = member_list.list_people(session(), access.org)
    form.user_id.choices = [
        SelectChoice(person.id, f"{person.name} · {person.email}")
        for person in people
        if person.id != access.org.owner_id
    ]
    return form
