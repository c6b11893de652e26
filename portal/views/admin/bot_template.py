"""Page with the bot template, the settings of new bots. Used by operators."""

from __future__ import annotations

from dataclasses import replace

from flask import Blueprint, flash, url_for
from werkzeug.wrappers import Response

from portal.forms.bot_template import BotTemplateForm
from portal.models import BotTemplate, utcnow
from portal.services.bots import bot_template
from portal.services.errors import InvalidFieldsError, StaleError
from portal.views.support import authorization, configuration
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_bot_template", __name__, url_prefix="/admin/settings/bot-template")

Answer = Response | tuple[Response, int]


@pages.get("")
def index() -> Answer:
    """Show all settings; of secrets only their names."""
    authorization.require_operator()
    return _page()


@pages.post("")
def save() -> Answer:
    """Save all settings. Empty secrets stay as they are."""
    operator = authorization.require_operator()
    row = bot_template.get_template(session())
    form = BotTemplateForm()
    form.offer_removal(sorted(row.environment or {}))
    if not form.validate():
        return _page(form), 422
    values = bot_template.read_values(row)
    try:
        bot_template.change_template(
            session(),
            configuration.current_allowlist(),
            replace(values, **form.read_settings(values.environment, values.api_key)),
            seen=form.version.data,
            now=utcnow(),
            actor=operator,
        )
    except StaleError as error:
        return _page(refusal=str(error)), 409
    except InvalidFieldsError as error:
        for setting, problem in error.problems.items():
            form.field_of(setting).errors = [problem]
        return _page(form), 422
    flash("Bot template saved. Existing bots keep their settings.", "info")
    return htmx.see_other(url_for("admin_bot_template.index"))


def _page(form: BotTemplateForm | None = None, refusal: str = "") -> Response:
    row = bot_template.get_template(session())
    return htmx.page("admin/bot_template.html", form=form or _stored_form(row), stored=row, refusal=refusal)


def _stored_form(row: BotTemplate) -> BotTemplateForm:
    values = vars(bot_template.read_values(row))
    shown = {name: value for name, value in values.items() if name not in {"environment", "api_key"}}
    form = BotTemplateForm(formdata=None, version=row.version, **shown)
    form.offer_removal(sorted(row.environment or {}))
    return form
