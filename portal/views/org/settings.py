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
    return _page(authorization.org(slug, Action.SET_UPDATE_PREFERENCES))


@pages.post("/name")
def rename(slug: str) -> Answer:
    """Give the organization another name."""
    mine = authorization.org(slug, Action.SET_ORG)
    form = RenameForm()
    if not form.validate():
        return _page(mine, general=form), 422
    try:
        creation.rename(session(), mine.org, form.name.data, version=form.version.data, actor=mine.user)
    except InvalidError as error:
        form.name.errors = [str(error)]
        return _page(mine, general=form), 422
    except StaleError as error:
        return _page(mine, refusal={"general": str(error)}), 409
    flash("The name is saved.", "info")
    return htmx.go_to(url_for("org_settings.show", slug=slug))


@pages.post("/updates")
def set_updates(slug: str) -> Answer:
    """Set how and when the organization's bots are updated; operators decide on its behalf."""
    mine = authorization.org(slug, Action.SET_UPDATE_PREFERENCES)
    form = UpdatesForm()
    if not form.validate():
        return _page(mine, updates=form), 422
    choose = update_preferences.set_preferences if mine.belongs else update_preferences.override
    try:
        update_preferences.require_fresh(session(), mine.org, form.version.data)
    except StaleError as error:
        return _page(mine, refusal={"updates": str(error)}), 409
    choose(session(), mine.org, TenantMode(form.mode.data), form.hour.data, mine.user)
    flash("How updates happen is saved.", "info")
    return _done(mine)


@pages.post("/updates/own")
def lift_override(slug: str) -> Answer:
    """Let the organization decide about its updates again."""
    mine = authorization.org(slug, Action.OVERRIDE_UPDATE_PREFERENCES)
    form = LiftForm()
    if not form.validate():
        return _page(mine, refusal={"updates": " ".join(form.version.errors)}), 422
    try:
        update_preferences.require_fresh(session(), mine.org, form.version.data)
    except StaleError as error:
        return _page(mine, refusal={"updates": str(error)}), 409
    update_preferences.lift_override(session(), mine.org, mine.user)
    flash(f"{mine.org.name} decides about its updates again.", "info")
    return _done(mine)


def _done(mine: OrgAccess) -> Answer:
    if htmx.is_fragment():
        return _page(mine)
    return htmx.see_other(url_for("org_settings.show", slug=mine.org.slug))


def _page(
    mine: OrgAccess,
    *,
    general: RenameForm | None = None,
    updates: UpdatesForm | None = None,
    refusal: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    org, now = mine.org, utcnow()
    preferences = update_preferences.preferences(session(), org)
    return htmx.page(
        "org/settings.html",
        parts={"general": "org/_general.html", "updates": "org/_updates.html"},
        access=mine,
        org=org,
        refusal=refusal,
        general=general or _fresh(RenameForm, name=org.name, version=org.version),
        updates=updates
        or _fresh(UpdatesForm, mode=str(preferences.mode), hour=preferences.hour_utc, version=preferences.version),
        lift=_fresh(LiftForm, version=preferences.version),
        preferences=preferences,
        managed=preferences.overridden_by_operator and mine.belongs,
        window=_window(preferences, now),
        transfer=_transfer_form(mine),
        offered_to=transfers.standing_offer(session(), org, now),
    )


def _fresh(form: type[SeenForm], **values: object) -> SeenForm:
    """A form that shows what is stored, whatever was posted."""
    return form(formdata=None, **values)


def _window(preferences: update_preferences.Preferences, now: datetime) -> Window | None:
    return next_window(preferences.hour_utc, now) if preferences.mode is TenantMode.AUTO else None


def _transfer_form(mine: OrgAccess) -> TransferForm:
    form = TransferForm(formdata=None)
    people = member_list.everybody(session(), mine.org)
    form.user_id.choices = [
        SelectChoice(person.id, f"{person.name} · {person.email}")
        for person in people
        if person.id != mine.org.owner_id
    ]
    return form
