"""Pages with the alert channels and their messages. Used by operators to add, change, test, pause and delete them."""

from __future__ import annotations

from flask import Blueprint, flash, request, url_for
from werkzeug.wrappers import Response

from portal.forms.alerts import FORMAT_LABELS, ChannelForm, NewChannelForm, PauseForm
from portal.models import AlertChannel, AlertFormat, utcnow
from portal.rules import alert_events
from portal.services import weekly_summary
from portal.services.alerts import channel_list, channels
from portal.services.alerts.channel_spec import ChannelSpec
from portal.services.errors import ConflictError, InvalidError, StaleError
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_alerts", __name__, url_prefix="/admin/alerts")

Answer = Response | tuple[Response, int]


@pages.get("")
def index() -> Answer:
    """Show all channels, and whether the operator gets the weekly summary."""
    operator = authorization.require_operator()
    return htmx.page(
        "admin/alerts.html",
        live={"channels": "admin/_alert_channels.html"},
        channels=channel_list.list_channels(session()),
        format_labels=FORMAT_LABELS,
        wants_summary=operator.weekly_summary,
    )


@pages.post("/weekly-summary")
def set_weekly_summary() -> Answer:
    """Subscribe the operator to the weekly summary, or end the subscription."""
    operator = authorization.require_operator()
    wanted = request.form.get("wanted") == "yes"
    weekly_summary.set_wanted(operator, wanted=wanted)
    flash("You get the summary on Mondays." if wanted else "You no longer get the weekly summary.", "info")
    return htmx.see_other(url_for("admin_alerts.index"))


@pages.get("/new")
def new() -> Answer:
    """Show the form of a new channel, with the events that need attention."""
    authorization.require_operator()
    return _new_page(NewChannelForm(None, tags=sorted(alert_events.TROUBLE)))


@pages.post("/new")
def add() -> Answer:
    """Add a channel. The answer is its page, because a signing secret is shown only once."""
    operator = authorization.require_operator()
    form = NewChannelForm()
    if not form.validate():
        return _new_page(form), 422
    try:
        channel = channels.add(session(), _read_new(form), actor=operator)
    except (InvalidError, ConflictError) as error:
        _show_error(form, error)
        return _new_page(form), 422
    flash("Channel added. Send a test message to see whether it arrives.", "info")
    if channel.format is not AlertFormat.JSON:
        return _go_to(channel.id)
    return _channel_page(channel, secret=channel.secret or "")


@pages.get("/<channel_id>")
def show(channel_id: str) -> Answer:
    """Show one channel with its settings and its messages."""
    authorization.require_operator()
    return _channel_page(channels.get(session(), channel_id))


@pages.post("/<channel_id>")
def save(channel_id: str) -> Answer:
    """Change a channel. An empty URL or access token stays as it is."""
    operator = authorization.require_operator()
    channel = channels.get(session(), channel_id)
    form = ChannelForm()
    if not form.validate():
        return _channel_page(channel, form), 422
    try:
        channels.change(session(), channel, _read_changes(form, channel), seen=form.version.data, actor=operator)
    except StaleError as error:
        return _channel_page(channel, refusal=str(error)), 409
    except (InvalidError, ConflictError) as error:
        session().rollback()
        _show_error(form, error)
        return _channel_page(channels.get(session(), channel_id), form), 422
    flash("Channel saved.", "info")
    return _go_to(channel_id)


@pages.post("/<channel_id>/test")
def test(channel_id: str) -> Answer:
    """Send a test message."""
    authorization.require_operator()
    channels.send_test(session(), channels.get(session(), channel_id))
    flash("Test message queued. Its result appears below within seconds.", "info")
    return _go_to(channel_id)


@pages.post("/<channel_id>/pause")
def pause(channel_id: str) -> Answer:
    """Pause a channel."""
    operator = authorization.require_operator()
    channel = channels.get(session(), channel_id)
    channels.pause(session(), channel, utcnow(), seen=_read_version(), actor=operator)
    flash(f"Alerts to {channel.name} are paused.", "info")
    return _go_to(channel_id)


@pages.post("/<channel_id>/resume")
def resume(channel_id: str) -> Answer:
    """Resume a paused channel."""
    operator = authorization.require_operator()
    channel = channels.get(session(), channel_id)
    channels.resume(session(), channel, seen=_read_version(), actor=operator)
    flash(f"Alerts to {channel.name} are resumed.", "info")
    return _go_to(channel_id)


@pages.post("/<channel_id>/secret")
def renew_secret(channel_id: str) -> Answer:
    """Replace the signing secret. The answer is the channel's page, because the secret is shown only once."""
    operator = authorization.require_operator()
    channel = channels.get(session(), channel_id)
    secret = channels.renew_secret(session(), channel, seen=_read_version(), actor=operator)
    return _channel_page(channel, secret=secret)


@pages.post("/<channel_id>/delete")
def delete(channel_id: str) -> Answer:
    """Delete a channel with its messages."""
    operator = authorization.require_operator()
    channel = channels.get(session(), channel_id)
    channels.delete(session(), channel, actor=operator)
    flash(f"The channel {channel.name} was deleted.", "info")
    return htmx.go_to(url_for("admin_alerts.index"))


@pages.post("/<channel_id>/messages/<message_id>/resend")
def resend(channel_id: str, message_id: str) -> Answer:
    """Send a refused message again."""
    authorization.require_operator()
    channels.resend(session(), channels.get(session(), channel_id), message_id)
    flash("Message queued. Its result appears below within seconds.", "info")
    return _go_to(channel_id)


def _go_to(channel_id: str) -> Response:
    return htmx.go_to(url_for("admin_alerts.show", channel_id=channel_id))


def _read_new(form: NewChannelForm) -> ChannelSpec:
    return ChannelSpec(
        form.name.data, AlertFormat(form.format.data), form.tags.data or [], form.url.data, form.secret.data or None
    )


def _read_changes(form: ChannelForm, channel: AlertChannel) -> ChannelSpec:
    """Return what was entered; fields with secrets that were left empty do not change."""
    return ChannelSpec(
        form.name.data, channel.format, form.tags.data or [], form.url.data or None, form.secret.data or None
    )


def _read_version() -> int:
    form = PauseForm()
    if not form.validate():
        raise StaleError("Reload the page and try again.")
    return int(form.version.data)


def _show_error(form: NewChannelForm | ChannelForm, error: InvalidError | ConflictError) -> None:
    field = error.field if isinstance(error, InvalidError) else "name"
    form[field or "name"].errors = [str(error)]


def _new_page(form: NewChannelForm) -> Response:
    return htmx.page("admin/alert_new.html", form=form, labels=alert_events.LABELS)


def _channel_page(
    channel: AlertChannel, form: ChannelForm | None = None, *, secret: str = "", refusal: str = ""
) -> Response:
    before = request.args.get("before", type=int)
    return htmx.page(
        "admin/alert_channel.html",
        live={"state": "admin/_alert_state.html", "deliveries": "admin/_alert_deliveries.html"},
        channel=channel,
        form=form or ChannelForm(None, version=channel.version, name=channel.name, tags=channel.tags),
        secret=secret,
        refusal=refusal,
        labels=alert_events.LABELS,
        format_labels=FORMAT_LABELS,
        deliveries=channel_list.list_deliveries(session(), channel, before),
        before=before,
    )
