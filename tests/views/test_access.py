"""Every route against everybody: a route that is missing here, or opens a page to the wrong person, fails."""

from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from portal.database import Database
from portal.models import UpdateState
from tests.support.scene import Scene, rollout
from tests.views.conftest import SignedIn

PEOPLE = ("alice", "bob", "carol", "mallory", "root")
"""Owner, member, admin, outsider, operator."""

EVERYBODY = {"auth.login": 200, "auth.sign_in": 422, "health.healthz": 200, "assets.vendor": 404, "static": 404}
OPERATORS = {
    "admin_fleet.index": 200,
    "admin_mail.index": 200,
    "admin_mail.resend": 404,
    "admin_overview.index": 200,
    "admin_overview.set_mode": 422,
    "admin_releases.check": 404,
    "admin_releases.index": 200,
    "admin_releases.lift": 422,
    "admin_releases.paste": 422,
    "admin_releases.quarantine": 422,
    "admin_releases.release": 200,
    "admin_releases.roll_back": 422,
    "admin_rollouts.abort": 422,
    "admin_rollouts.index": 200,
    "admin_rollouts.new": 200,
    "admin_rollouts.pause": 303,
    "admin_rollouts.resume": 303,
    "admin_rollouts.retry": 409,
    "admin_rollouts.show": 200,
    "admin_rollouts.start": 422,
}
MEMBERS = {"org.home": 200, "bot.page": 200, "bot.changelog": 200}
ADMINS = {"bot.update_now": 409, "bot.later": 303}
SIGNED_IN = {"home.index", "auth.sign_out"}


def expected(endpoint: str, person: str) -> int | None:
    """The status a person gets from a bare request; None where being signed in is all it takes."""
    if endpoint in SIGNED_IN:
        return None
    if endpoint in OPERATORS:
        return OPERATORS[endpoint] if person == "root" else 403
    if person == "mallory":
        return 404
    if endpoint in ADMINS and person == "bob":
        return 403
    return (MEMBERS | ADMINS)[endpoint]


def requests(app: Flask, scene: Scene, rollout_id: str) -> list[tuple[str, str, str]]:
    """Endpoint, method and address of every route."""
    values: dict[str, Any] = {
        "slug": "acme",
        "bot_id": scene.bots[0],
        "release_id": scene.new,
        "rollout_id": rollout_id,
        "name": "nothing",
        "filename": "nothing",
        "mail_id": "nothing",
    }

    def arguments(rule: Rule) -> dict[str, Any]:
        return {name: values[name] for name in rule.arguments}

    with app.test_request_context(base_url="http://localhost"):
        return [
            (rule.endpoint, method, app.url_for(rule.endpoint, **arguments(rule)))
            for rule in sorted(app.url_map.iter_rules(), key=str)
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        ]


def test_every_route_opens_to_the_right_people_only(
    app: Flask, signed_in: SignedIn, stranger: FlaskClient, scene: Scene, database: Database
) -> None:
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.UPDATED])
    wrong = []
    for endpoint, method, address in requests(app, scene, made.id):
        if endpoint in EVERYBODY:
            continue
        answer = stranger.open(address, method=method)
        if not (answer.status_code == 303 and answer.location.startswith("/login")):
            wrong.append(f"a stranger gets {answer.status_code} from {method} {endpoint}")
    for person in PEOPLE:
        client = signed_in(person)
        for endpoint, method, address in requests(app, scene, made.id):
            if endpoint in EVERYBODY or expected(endpoint, person) is None:
                continue
            status = client.open(address, method=method).status_code
            if status != expected(endpoint, person):
                wrong.append(f"{person} gets {status} from {method} {endpoint}, not {expected(endpoint, person)}")
    assert wrong == []


def test_every_public_route_answers_strangers(app: Flask, stranger: FlaskClient, scene: Scene) -> None:
    found = {
        endpoint: stranger.open(address, method=method).status_code
        for endpoint, method, address in requests(app, scene, "none")
        if endpoint in EVERYBODY
    }
    assert found == EVERYBODY


def test_a_member_who_was_removed_loses_the_organization_at_once(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    from portal.models import Membership, MembershipState

    bob = signed_in("bob")
    assert bob.get("/o/acme/").status_code == 200
    with database.transaction() as session:
        for row in session.query(Membership):
            row.state = MembershipState.REMOVED
    assert bob.get("/o/acme/").status_code == 404
