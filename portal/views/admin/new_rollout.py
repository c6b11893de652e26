"""The form of a new rollout: choose bots, preview, start. Used by operators."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, flash, request, url_for
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as BaseResponse
from wtforms import SelectChoice

from portal.forms.rollouts import MAX_BOTS, RolloutForm, split_names
from portal.models import Audience, Release, Rollout, utcnow
from portal.rules.strategies import PARAMETERS, StrategyName
from portal.services.bots import bot_list
from portal.services.errors import ConflictError, InvalidError, ServiceError
from portal.services.releases import release_list, releases
from portal.services.rollouts import bot_choice, forecast, rollouts, selection, update_list
from portal.services.rollouts.narrowing import Narrowing
from portal.views.support import authorization, configuration
from portal.web import htmx
from portal.web.unit_of_work import separate_transaction, session

pages = Blueprint("admin_new_rollout", __name__, url_prefix="/admin/rollouts/new")

Answer = BaseResponse | tuple[BaseResponse, int]

_CHECK_FIELDS = "Check the highlighted fields."
_NOT_PREVIEWED = "Your last changes are not in the preview yet. Check the preview, then start the rollout."


@pages.get("")
def form() -> Answer:
    """Show the form with the values of the URL, beside a preview."""
    authorization.require_operator()
    values: Any = request.args if "strategy" in request.args else None
    if "repeat" in request.args:
        values = _repeat(rollouts.get_rollout(session(), request.args["repeat"]))
    filled = _form(values)
    return _page(filled, "" if values is None or filled.validate() else _CHECK_FIELDS)


@pages.post("/preview")
def preview() -> Answer:
    """Show the form with the entered values, beside a preview. Changes nothing: the values are too long for a URL."""
    authorization.require_operator()
    with separate_transaction():
        filled = _form(request.form)
        return _page(filled, "" if filled.validate() else _CHECK_FIELDS)


@pages.post("")
def start() -> Answer:
    """Start the rollout that the page previewed."""
    operator = authorization.require_operator()
    filled = _form(request.form)
    if not filled.validate():
        return _page(filled, _CHECK_FIELDS), 422
    if request.form.get("previewed") != filled.digest():
        return _page(filled, notice=_NOT_PREVIEWED), 409
    try:
        rollout = rollouts.start_rollout(
            session(), configuration.current_allowlist(), _build_request(filled), utcnow(), actor=operator
        )
    except InvalidError as error:
        session().rollback()
        return _page(filled, _show_error(filled, error)), 422
    except ConflictError as error:  # The fleet changed since the page was opened. The form keeps its values.
        session().rollback()
        return _page(filled, error.for_operators), 409
    flash(f"Rollout of {rollout.release.version} started.", "info")
    return htmx.go_to(url_for("admin_rollouts.show", rollout_id=rollout.id))


def _form(values: Any) -> RolloutForm:
    # Values of a URL come without a token. The token of a POST is checked before the view starts.
    filled = RolloutForm(values, meta={"csrf": False})
    filled.release.choices = [
        SelectChoice(
            line.release.id, f"{line.release.version} · {line.release.image} · {line.release.first_seen_at:%Y-%m-%d}"
        )
        for line in release_list.list_releases(session())
        if line.release.quarantined_at is None
    ]
    filled.nodes.choices = [SelectChoice(node.id, node.name) for node in bot_choice.list_nodes(session())]
    if values is None:
        preselected = request.args.get("release")
        filled.release.data = preselected or next((choice.value for choice in filled.release.choices), None)
    return filled


def _page(filled: RolloutForm, refusal: str = "", notice: str = "") -> Response:
    """Render the form beside its preview, or the requested part. A refusal replaces the preview."""
    part = request.args.get("part") if htmx.is_fragment() else None
    found = None
    if not refusal and filled.release.data and part != "choice":
        try:
            found = forecast.preview_rollout(
                session(), configuration.current_allowlist(), _build_request(filled), utcnow()
            )
        except ServiceError as error:
            refusal = _show_error(filled, error)
    return htmx.page(
        "admin/rollout_new.html",
        parts={"outlook": "admin/_forecast.html", "choice": "admin/_bot_choice.html"},
        form=filled,
        preview=found,
        refusal=refusal,
        notice=notice,
        text=request.values.get("q", ""),
        listing=None if part == "outlook" else _search_bots(filled),
        max_waves=forecast.WAVES,
    )


def _repeat(rollout: Rollout) -> MultiDict[str, Any]:
    """Return the form values of a rollout that has been started."""
    narrowing = asdict(Narrowing.load(rollout.selection))
    names = {name: ", ".join(narrowing.pop(name)) for name in ("orgs", "except_orgs", "labels")}
    named = rollout.audience is Audience.NAMED
    return MultiDict(
        {
            "release": rollout.release_id,
            "strategy": rollout.strategy,
            "audience": rollout.audience,
            "bots": list(update_list.list_bot_ids(session(), rollout, MAX_BOTS)) if named else [],
            **({"ignore_windows": "y"} if rollout.ignore_windows else {}),
            **{name: parameter.default for name, parameter in PARAMETERS.items()},
            **rollout.parameters,
            **names,
            **narrowing,
        }
    )


def _search_bots(filled: RolloutForm) -> Any:
    release = _find_release(filled)
    if release is None:
        return None
    page = request.values.get("page", 1, type=int)
    return bot_choice.search_bots(session(), release, _narrow(filled), request.values.get("q", ""), page)


def _find_release(filled: RolloutForm) -> Release | None:
    if filled.release.data not in {choice.value for choice in filled.release.choices}:
        return None
    return releases.get_release(session(), filled.release.data)


def _show_error(filled: RolloutForm, error: ServiceError) -> str:
    """Add an error to the field it names, if any, and return its message."""
    if isinstance(error, InvalidError) and error.field in filled:
        filled[error.field].errors = [error.for_operators]
    return error.for_operators


def _narrow(filled: RolloutForm) -> Narrowing:
    if filled.audience.data == Audience.NAMED:
        return Narrowing()
    return Narrowing(
        orgs=tuple(split_names(filled.orgs.data)),
        except_orgs=tuple(split_names(filled.except_orgs.data)),
        labels=tuple(split_names(filled.labels.data)),
        nodes=tuple(filled.nodes.data or ()),
        channels=tuple(filled.channels.data or ()),
        except_bots=tuple(filled.except_bots.data or ()),
    )


def _build_request(filled: RolloutForm) -> selection.RolloutRequest:
    narrowing = _narrow(filled)
    for field in ("orgs", "except_orgs"):
        if unknown := bot_choice.list_unknown_orgs(session(), getattr(narrowing, field)):
            raise InvalidError(f"No organization has the URL name “{unknown[0]}”.", field)
    wanted = filled.bots.data or [] if filled.audience.data == Audience.NAMED else []
    bots = bot_list.load_by_ids(session(), wanted)
    if len(bots) < len(set(wanted)):
        raise InvalidError("One of these bots is not an option any more. Choose again.", "bots")
    return selection.RolloutRequest(
        release=releases.get_release(session(), filled.release.data),
        strategy=StrategyName(filled.strategy.data),
        parameters=filled.parameters(),
        audience=Audience(filled.audience.data),
        bots=bots,
        narrowing=narrowing,
        ignore_windows=filled.ignore_windows.data,
    )
