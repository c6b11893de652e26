"""Releases: what registries offer, how asking them went, and which releases nobody may roll out."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request, url_for
from werkzeug.wrappers import Response

from portal.forms.releases import DigestForm, ReasonForm, RollBackForm
from portal.models import Release, utcnow
from portal.queue import JobName
from portal.services.errors import InvalidError
from portal.services.releases import polling, release_list, releases
from portal.services.rollouts import rollouts
from portal.views.support import authorization, configuration
from portal.web import htmx
from portal.web.unit_of_work import enqueue_after_commit, session

pages = Blueprint("admin_releases", __name__, url_prefix="/admin/releases")

Answer = Response | str | tuple[str | Response, int]


@pages.get("")
def index() -> Answer:
    """Images with how asking went, and every release, the newest first."""
    authorization.require_operator()
    return _page(DigestForm())


@pages.post("/check")
def check() -> Answer:
    """Ask the registry about one image now."""
    authorization.require_operator()
    row = polling.check_now(session(), request.form.get("image", ""), utcnow())
    enqueue_after_commit(JobName.POLL_IMAGE, row.image)
    flash(f"Asking the registry about {row.image}. The answer appears here within seconds.", "info")
    return htmx.see_other(url_for("admin_releases.index"))


@pages.post("/paste")
def paste() -> Answer:
    """Look up a digest that somebody pasted; it becomes a release."""
    authorization.require_operator()
    form = DigestForm()
    if not form.validate():
        return _page(form), 422
    try:
        releases.require_allowed_image(configuration.current_allowlist(), form.reference.data)
        row = polling.request_digest(session(), form.reference.data, utcnow())
    except (InvalidError, ValueError) as error:
        session().rollback()
        form.reference.errors = [str(error)]
        return _page(form), 422
    enqueue_after_commit(JobName.POLL_IMAGE, row.image)
    flash("Asking the registry about this digest. The release appears here within seconds.", "info")
    return htmx.see_other(url_for("admin_releases.index"))


@pages.get("/<release_id>")
def release(release_id: str) -> Answer:
    """One release: its digests, its changelog, and who runs it."""
    authorization.require_operator()
    return _release(releases.get_release(session(), release_id), ReasonForm())


@pages.post("/<release_id>/quarantine")
def quarantine(release_id: str) -> Answer:
    """Make sure nobody rolls it out."""
    operator = authorization.require_operator()
    found = releases.get_release(session(), release_id)
    form = ReasonForm()
    if not form.validate():
        return _release(found, form), 422
    releases.quarantine(session(), found, form.reason.data, operator)
    flash(f"Release {found.version} is quarantined.", "info")
    return htmx.see_other(url_for("admin_releases.release", release_id=found.id))


@pages.post("/<release_id>/lift")
def lift(release_id: str) -> Answer:
    """Allow it again."""
    operator = authorization.require_operator()
    found = releases.get_release(session(), release_id)
    form = ReasonForm()
    if not form.validate():
        return _release(found, form), 422
    releases.lift_quarantine(session(), found, form.reason.data, operator)
    flash(f"Release {found.version} may be rolled out again.", "info")
    return htmx.see_other(url_for("admin_releases.release", release_id=found.id))


@pages.post("/<release_id>/roll-back")
def roll_back(release_id: str) -> Answer:
    """Bring the whole fleet back to this release and quarantine every newer one."""
    operator = authorization.require_operator()
    found = releases.get_release(session(), release_id)
    form = RollBackForm(version=found.version)
    if not form.validate():
        return _release(found, ReasonForm(None), form), 422
    rollout = rollouts.roll_back_fleet(
        session(), configuration.current_allowlist(), release=found, reason=form.why.data, actor=operator
    )
    flash(f"The fleet goes back to {found.version}.", "info")
    return htmx.go_to(url_for("admin_rollouts.show", rollout_id=rollout.id))


def _page(form: DigestForm) -> Response:
    return htmx.page(
        "admin/releases.html",
        live={"images": "admin/_images.html", "releases": "admin/_releases.html"},
        images=release_list.list_images(session()),
        releases=release_list.list_releases(session()),
        form=form,
    )


def _release(found: Release, form: ReasonForm, back: RollBackForm | None = None) -> str:
    return render_template(
        "admin/release.html",
        release=found,
        running=release_list.count_bots(session(), found),
        rollouts=release_list.list_rollouts(session(), found),
        form=form,
        back=back or RollBackForm(None),
        newer=releases.list_newer(session(), found),
    )
