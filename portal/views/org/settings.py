"""Settings page of an organization: name, update preferences, ownership, deletion."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from flask import Blueprint, Response, flash, url_for
from werkzeug.wrappers import Response as BaseResponse
from wtforms import SelectChoice

from portal.forms.orgs import LiftForm, RenameForm, TransferForm, UpdatesForm, VersionedForm
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
    """Show the settings that the user may change."""
    return render_page(authorization.require_org(slug, Action.SET_UPDATE_PREFERENCES))


@pages.post("/name")
def rename(slug: str) -> Answer:
    """Rename the organization."""
    access = authorization.require_org(slug, Action.SET_ORG)
    form = RenameForm()
    if not form.validate():
        return render_page(access, general=form), 422
    try:
        creation.rename_org(session(), access.org, form.name.data, version=form.version.data, actor=access.user)
    except InvalidError as error:
        form.name.errors = [str(error)]
        return render_page(access, general=form), 422
    except StaleError as error:
        return render_page(access, refusal={"general": str(error)}), 409
    flash("Name saved.", "info")
    return htmx.go_to(url_for("org_settings.show", slug=slug))


@pages.post("/updates")
def set_updates(slug: str) -> Answer:
    """Set the update preferences. An operator who is no member overrides them."""
    access = authorization.require_org(slug, Action.SET_UPDATE_PREFERENCES)
    form = UpdatesForm()
    if not form.validate():
        return render_page(access, updates=form), 422
    store = update_preferences.set_preferences if access.is_member else update_preferences.set_override
    try:
        update_preferences.require_current_version(session(), access.org, form.version.data)
    except StaleError as error:
        return render_page(access, refusal={"updates": str(error)}), 409
    mode = TenantMode(form.mode.data)
    store(session(), access.org, mode, form.hour.data, actor=access.user, now=utcnow())
    flash("Update settings saved.", "info")
    return _answer_saved(access)


@pages.post("/updates/lift-override")
def lift_override(slug: str) -> Answer:
    """Return control of the update preferences to the organization."""
    access = authorization.require_org(slug, Action.OVERRIDE_UPDATE_PREFERENCES)
    form = LiftForm()
    if not form.validate():
        return render_page(access, refusal={"updates": " ".join(form.version.errors)}), 422
    try:
        update_preferences.require_current_version(session(), access.org, form.version.data)
    except StaleError as error:
        return render_page(access, refusal={"updates": str(error)}), 409
    update_preferences.lift_override(session(), access.org, actor=access.user, now=utcnow())
    flash(f"{access.org.name} manages its updates again.", "info")
    return _answer_saved(access)


def _answer_saved(access: OrgAccess) -> Answer:
    if htmx.is_fragment():
        return render_page(access)
    return htmx.see_other(url_for("org_settings.show", slug=access.org.slug))


def render_page(
    access: OrgAccess,
    *,
    general: RenameForm | None = None,
    updates: UpdatesForm | None = None,
    transfer: TransferForm | None = None,
    refusal: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    """Render the settings page.

    Args:
        access: the organization and the user.
        general: the posted form of the name with its errors.
        updates: the posted form of the update preferences with its errors.
        transfer: the posted form of a transfer with its errors.
        refusal: why a change was refused, by section.
    """
    org, now = access.org, utcnow()
    preferences = update_preferences.get_preferences(session(), org)
    return htmx.page(
        "org/settings.html",
        parts={"general": "org/_general.html", "updates": "org/_updates.html"},
        access=access,
        org=org,
        refusal=refusal,
        general=general or _stored_form(RenameForm, name=org.name, version=org.version),
        updates=updates
        or _stored_form(
            UpdatesForm, mode=str(preferences.mode), hour=preferences.hour_utc, version=preferences.version
        ),
        lift=_stored_form(LiftForm, version=preferences.version),
        preferences=preferences,
        managed=preferences.overridden_by_operator and access.is_member,
        window=_next_window(preferences, now),
        transfer=transfer or build_transfer_form(access, formdata=None),
        offered_to=transfers.find_offered_user(session(), org, now),
    )


def _stored_form(form: type[VersionedForm], **values: object) -> VersionedForm:
    """Build a form that shows the stored values instead of the posted ones."""
    return form(formdata=None, **values)


def _next_window(preferences: update_preferences.Preferences, now: datetime) -> Window | None:
    return next_window(preferences.hour_utc, now) if preferences.mode is TenantMode.AUTO else None


def build_transfer_form(access: OrgAccess, **options: Any) -> TransferForm:
    """Build the form that offers the ownership to another member.

    Args:
        access: the organization and the user.
        options: options of the form; `formdata=None` for an empty form.
    """
    form = TransferForm(**options)
    form.user_id.choices = [
        SelectChoice(user.id, f"{user.name} · {user.email}")
        for user in member_list.list_people(session(), access.org)
        if user.id != access.org.owner_id
    ]
    return form
