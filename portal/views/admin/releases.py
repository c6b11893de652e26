"""Pages with images and releases. Used by operators to check registries, quarantine releases and roll back."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request, url_for
from werkzeug.wrappers import Response

from portal.forms.releases import DigestForm, ReasonForm, RollBackForm
from portal.models import Release, utcnow
from portal.queue import POLLS_QUEUE, JobName
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
    """Show the images with the result of their last check, and all releases, the newest first."""
    authorization.require_operator()
    return _list_page(DigestForm())


@pages.post("/check")
def check() -> Answer:
    """Check one image in its registry now."""
    authorization.require_operator()
    polled = polling.check_now(session(), request.form.get("image", ""), utcnow())
    enqueue_after_commit(JobName.POLL_IMAGE, polled.image, queue=POLLS_QUEUE)
    flash(f"Checking {polled.image}. The result appears here within seconds.", "info")
    return htmx.see_other(url_for("admin_releases.index"))


@pages.post("/paste")
def paste() -> Answer:
    """Look up a digest in its registry, which adds it as a release."""
    authorization.require_operator()
    form = DigestForm()
    if not form.validate():
        return _list_page(form), 422
    try:
        releases.require_allowed_image(configuration.current_allowlist(), form.reference.data)
        polled = polling.request_digest(session(), form.reference.data, utcnow())
    except (InvalidError, ValueError) as error:
        session().rollback()
        form.reference.errors = [error.for_operators if isinstance(error, InvalidError) else str(error)]
        return _list_page(form), 422
    enqueue_after_commit(JobName.POLL_IMAGE, polled.image, queue=POLLS_QUEUE)
    flash("Looking up this digest. The release appears here within seconds.", "info")
    return htmx.see_other(url_for("admin_releases.index"))


@pages.get("/<release_id>")
def release(release_id: str) -> Answer:
    """Show one release with its digests, its changelog and its rollouts."""
    authorization.require_operator()
    return _release_page(releases.get_release(session(), release_id), ReasonForm())


@pages.post("/<release_id>/quarantine")
def quarantine(release_id: str) -> Answer:
    """Quarantine a release, so that it cannot be rolled out."""
    operator = authorization.require_operator()
    target = releases.get_release(session(), release_id)
    form = ReasonForm()
    if not form.validate():
        return _release_page(target, form), 422
    releases.quarantine(session(), target, form.reason.data, utcnow(), actor=operator)
    flash(f"Release {target.version} quarantined.", "info")
    return htmx.see_other(url_for("admin_releases.release", release_id=target.id))


@pages.post("/<release_id>/lift")
def lift(release_id: str) -> Answer:
    """Lift the quarantine of a release."""
    operator = authorization.require_operator()
    target = releases.get_release(session(), release_id)
    form = ReasonForm()
    if not form.validate():
        return _release_page(target, form), 422
    releases.lift_quarantine(session(), target, form.reason.data, utcnow(), actor=operator)
    flash(f"Quarantine lifted. Release {target.version} can be rolled out again.", "info")
    return htmx.see_other(url_for("admin_releases.release", release_id=target.id))


@pages.post("/<release_id>/roll-back")
def roll_back(release_id: str) -> Answer:
    """Roll the whole fleet back to a release and quarantine every newer one."""
    operator = authorization.require_operator()
    target = releases.get_release(session(), release_id)
    form = RollBackForm(version=target.version)
    if not form.validate():
        return _release_page(target, ReasonForm(None), form), 422
    rollout = rollouts.roll_back_fleet(
        session(), configuration.current_allowlist(), utcnow(), release=target, reason=form.why.data, actor=operator
    )
    flash(f"Rolling the fleet back to {target.version}.", "info")
    return htmx.go_to(url_for("admin_rollouts.show", rollout_id=rollout.id))


def _list_page(form: DigestForm) -> Response:
    return htmx.page(
        "admin/releases.html",
        live={"images": "admin/_images.html", "releases": "admin/_releases.html"},
        images=release_list.list_images(session()),
        releases=release_list.list_releases(session()),
        form=form,
    )


def _release_page(release: Release, form: ReasonForm, roll_back_form: RollBackForm | None = None) -> str:
    return render_template(
        "admin/release.html",
        release=release,
        bot_count=release_list.count_bots(session(), release),
        rollouts=release_list.list_rollouts(session(), release),
        form=form,
        roll_back_form=roll_back_form or RollBackForm(None),
        newer=releases.list_newer(session(), release),
    )
