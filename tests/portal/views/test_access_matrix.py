"""Access of every kind of user to every route. A new route fails these tests until it is in `ROUTES`.

`ROUTES` says what each route requires. The permission table says which roles have that right.
"""

from enum import Enum, auto
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.wrappers import Response

from portal.database import Database
from portal.models import Bot, BotUpdate, Membership, MembershipRole, Org, UpdateState, User, utcnow
from portal.policy import Action, can
from portal.rules.roles import Role
from portal.services.orgs import invites
from portal.views.support.authorization import PUBLIC
from portal.web.unit_of_work import session as request_session
from tests.support import sync_rows
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene, rollout

PEOPLE: dict[str, frozenset[Role]] = {
    "alice": frozenset({Role.OWNER}),
    "carol": frozenset({Role.ADMIN}),
    "bob": frozenset({Role.MEMBER}),
    "root": frozenset({Role.OPERATOR}),
    "mallory": frozenset(),
}


class Need(Enum):
    """What a route outside of organizations requires."""

    NOTHING = auto()
    SIGNED_IN = auto()
    OPERATOR = auto()


ROUTES: dict[str, tuple[Need | Action, int]] = {
    "account.change_password": (Need.SIGNED_IN, 422),
    "account.end_all_sessions": (Need.SIGNED_IN, 303),
    "account.end_session": (Need.SIGNED_IN, 303),
    "account.index": (Need.SIGNED_IN, 200),
    "account.rename": (Need.SIGNED_IN, 422),
    "account_address.ask": (Need.SIGNED_IN, 422),
    "account_address.change": (Need.SIGNED_IN, 404),
    "account_address.confirm": (Need.SIGNED_IN, 410),
    "account_address.follow": (Need.NOTHING, 303),
    "account_deletion.confirm": (Need.SIGNED_IN, 200),
    "account_deletion.delete": (Need.SIGNED_IN, 422),
    "admin_alerts.add": (Need.OPERATOR, 422),
    "admin_alerts.delete": (Need.OPERATOR, 404),
    "admin_alerts.index": (Need.OPERATOR, 200),
    "admin_alerts.new": (Need.OPERATOR, 200),
    "admin_alerts.pause": (Need.OPERATOR, 404),
    "admin_alerts.renew_secret": (Need.OPERATOR, 404),
    "admin_alerts.resend": (Need.OPERATOR, 404),
    "admin_alerts.resume": (Need.OPERATOR, 404),
    "admin_alerts.save": (Need.OPERATOR, 404),
    "admin_alerts.set_weekly_summary": (Need.OPERATOR, 303),
    "admin_alerts.show": (Need.OPERATOR, 404),
    "admin_alerts.test": (Need.OPERATOR, 404),
    "admin_bot_template.index": (Need.OPERATOR, 200),
    "admin_bot_template.save": (Need.OPERATOR, 422),
    "admin_events.index": (Need.OPERATOR, 200),
    "admin_fleet.delete_view": (Need.OPERATOR, 404),
    "admin_fleet.export": (Need.OPERATOR, 200),
    "admin_fleet.index": (Need.OPERATOR, 200),
    "admin_fleet.save_view": (Need.OPERATOR, 303),
    "admin_fleet_actions.act": (Need.OPERATOR, 422),
    "admin_mail.dismiss": (Need.OPERATOR, 409),
    "admin_mail.index": (Need.OPERATOR, 200),
    "admin_mail.resend": (Need.OPERATOR, 404),
    "admin_new_rollout.form": (Need.OPERATOR, 200),
    "admin_new_rollout.preview": (Need.OPERATOR, 200),
    "admin_new_rollout.start": (Need.OPERATOR, 422),
    "admin_nodes.activate": (Need.OPERATOR, 303),
    "admin_nodes.drain": (Need.OPERATOR, 303),
    "admin_nodes.index": (Need.OPERATOR, 200),
    "admin_orgs.create_bot": (Need.OPERATOR, 422),
    "admin_orgs.index": (Need.OPERATOR, 200),
    "admin_orgs.lift": (Need.OPERATOR, 422),
    "admin_orgs.override": (Need.OPERATOR, 422),
    "admin_orgs.restore": (Need.OPERATOR, 409),
    "admin_orgs.show": (Need.OPERATOR, 200),
    "admin_overview.index": (Need.OPERATOR, 200),
    "admin_overview.set_mode": (Need.OPERATOR, 422),
    "admin_releases.check": (Need.OPERATOR, 422),
    "admin_releases.index": (Need.OPERATOR, 200),
    "admin_releases.lift": (Need.OPERATOR, 422),
    "admin_releases.paste": (Need.OPERATOR, 422),
    "admin_releases.quarantine": (Need.OPERATOR, 422),
    "admin_releases.release": (Need.OPERATOR, 200),
    "admin_releases.roll_back": (Need.OPERATOR, 422),
    "admin_rollout_reports.compare": (Need.OPERATOR, 200),
    "admin_rollout_reports.show": (Need.OPERATOR, 200),
    "admin_rollouts.abort": (Need.OPERATOR, 422),
    "admin_rollouts.index": (Need.OPERATOR, 200),
    "admin_rollouts.ignore_windows": (Need.OPERATOR, 303),
    "admin_rollouts.log": (Need.OPERATOR, 200),
    "admin_rollouts.pause": (Need.OPERATOR, 303),
    "admin_rollouts.resume": (Need.OPERATOR, 409),
    "admin_rollouts.retry": (Need.OPERATOR, 409),
    "admin_rollouts.show": (Need.OPERATOR, 200),
    "admin_rollouts.skip_pause": (Need.OPERATOR, 303),
    "admin_search.index": (Need.OPERATOR, 200),
    "admin_search.shortcuts": (Need.OPERATOR, 200),
    "admin_settings.index": (Need.OPERATOR, 200),
    "admin_settings.save": (Need.OPERATOR, 422),
    "admin_sync.allow_removals": (Need.OPERATOR, 409),
    "admin_sync.index": (Need.OPERATOR, 200),
    "admin_sync.resync": (Need.OPERATOR, 409),
    "admin_sync.retry_all": (Need.OPERATOR, 303),
    "admin_sync.retry_bot": (Need.OPERATOR, 303),
    "admin_sync.retry_person": (Need.OPERATOR, 303),
    "admin_sync.show": (Need.OPERATOR, 200),
    "admin_upstream.index": (Need.OPERATOR, 200),
    "admin_users.disable": (Need.OPERATOR, 303),
    "admin_users.enable": (Need.OPERATOR, 303),
    "admin_users.end_sessions": (Need.OPERATOR, 303),
    "admin_users.grant_operator": (Need.OPERATOR, 422),
    "admin_users.index": (Need.OPERATOR, 200),
    "admin_users.revoke_operator": (Need.OPERATOR, 303),
    "admin_users.show": (Need.OPERATOR, 200),
    "assertion_keys.key_set": (Need.NOTHING, 200),
    "assets.vendor": (Need.NOTHING, 404),
    "audit.index": (Action.READ_AUDIT, 200),
    "auth.login": (Need.NOTHING, 200),
    "auth.sign_in": (Need.NOTHING, 422),
    "auth.sign_out": (Need.SIGNED_IN, 303),
    "bot.changelog": (Action.READ, 200),
    "bot.clear": (Need.OPERATOR, 422),
    "bot.later": (Action.UPDATE_NOW, 303),
    "bot.page": (Action.READ, 200),
    "bot.recover": (Need.OPERATOR, 409),
    "bot.remove": (Action.OPERATE_BOTS, 422),
    "bot.restart": (Action.OPERATE_BOTS, 303),
    "bot.restore": (Action.OPERATE_BOTS, 409),
    "bot.retry_creation": (Need.OPERATOR, 409),
    "bot.start": (Action.OPERATE_BOTS, 409),
    "bot.stop": (Action.OPERATE_BOTS, 303),
    "bot.update_now": (Action.UPDATE_NOW, 409),
    "bot_logs.download": (Action.READ_LOGS, 303),
    "bot_logs.index": (Action.READ_LOGS, 200),
    "health.healthz": (Need.NOTHING, 200),
    "home.index": (Need.SIGNED_IN, 0),
    "invitation.accept": (Need.NOTHING, 404),
    "invitation.decline": (Need.NOTHING, 404),
    "invitation.follow": (Need.NOTHING, 303),
    "invitation.join": (Need.NOTHING, 404),
    "invitation.mailed": (Need.NOTHING, 404),
    "invitation.prove": (Need.NOTHING, 404),
    "invitation.show": (Need.NOTHING, 404),
    "invitation.switch": (Need.SIGNED_IN, 303),
    "invites.copy_link": (Action.MANAGE_TEAM, 200),
    "invites.index": (Action.MANAGE_TEAM, 200),
    "invites.resend": (Action.MANAGE_TEAM, 303),
    "invites.revoke": (Action.MANAGE_TEAM, 303),
    "invites.send": (Action.MANAGE_TEAM, 422),
    "member_sync.index": (Action.READ, 303),
    "member_sync.retry": (Action.MANAGE_TEAM, 303),
    "opening.open_bot": (Action.OPEN_BOT, 303),
    "org.home": (Action.READ, 200),
    "org_settings.lift_override": (Action.OVERRIDE_UPDATE_PREFERENCES, 422),
    "org_settings.rename": (Action.SET_ORG, 422),
    "org_settings.set_updates": (Action.SET_UPDATE_PREFERENCES, 422),
    "org_settings.show": (Action.SET_UPDATE_PREFERENCES, 200),
    "orgs.create": (Need.SIGNED_IN, 422),
    "orgs.index": (Need.SIGNED_IN, 200),
    "orgs.new": (Need.SIGNED_IN, 200),
    "ownership.accept": (Action.READ, 409),
    "ownership.confirm_deletion": (Action.DELETE_ORG, 200),
    "ownership.decline": (Action.READ, 409),
    "ownership.delete": (Action.DELETE_ORG, 422),
    "ownership.offer": (Action.TRANSFER_OWNERSHIP, 422),
    "ownership.restore": (Action.DELETE_ORG, 409),
    "ownership.withdraw": (Action.TRANSFER_OWNERSHIP, 303),
    "recovery.ask": (Need.NOTHING, 422),
    "recovery.choose": (Need.NOTHING, 410),
    "recovery.follow": (Need.NOTHING, 303),
    "recovery.reset": (Need.NOTHING, 410),
    "recovery.sent": (Need.NOTHING, 200),
    "recovery.start": (Need.NOTHING, 200),
    "signup.ask": (Need.NOTHING, 422),
    "signup.create": (Need.NOTHING, 410),
    "signup.finish": (Need.NOTHING, 410),
    "signup.follow": (Need.NOTHING, 303),
    "signup.sent": (Need.NOTHING, 200),
    "signup.start": (Need.NOTHING, 200),
    "static": (Need.NOTHING, 404),
    "team.change_role": (Action.MANAGE_TEAM, 422),
    "team.confirm_leaving": (Action.LEAVE, 200),
    "team.confirm_removal": (Action.MANAGE_TEAM, 200),
    "team.index": (Action.READ, 200),
    "team.leave": (Action.LEAVE, 303),
    "team.remove": (Action.MANAGE_TEAM, 422),
}
"""What each route requires, and the status of a request without data from a user who has the right.

The status is 0 where it differs between allowed users; other tests cover these routes.
"""


def expected(endpoint: str, person: str) -> int:
    """Return the status that a user gets for a request without data."""
    need, status = ROUTES[endpoint]
    if isinstance(need, Action):
        if not PEOPLE[person]:
            return 404
        return status if can(PEOPLE[person], need) else 403
    return 403 if need is Need.OPERATOR and person != "root" else status


def list_requests(app: Flask, **values: Any) -> list[tuple[str, str, str]]:
    """Return endpoint, method and URL of every route. An argument without a value names a missing row."""

    def arguments(rule: Rule) -> dict[str, Any]:
        return {name: values.get(name, "nothing") for name in rule.arguments}

    with app.test_request_context(base_url="http://localhost"):
        return [
            (rule.endpoint, method, app.url_for(rule.endpoint, **arguments(rule)))
            for rule in sorted(app.url_map.iter_rules(), key=str)
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        ]


def roll_back_requests(app: Flask) -> None:
    """Roll back every request, so that no request changes the data of the next one."""

    def undo(response: Response) -> Response:
        request_session().rollback()
        return response

    app.after_request(undo)


def test_table_contains_every_route(app: Flask) -> None:
    assert {rule.endpoint for rule in app.url_map.iter_rules()} == set(ROUTES), "add new routes to ROUTES"
    assert {endpoint for endpoint, (need, _) in ROUTES.items() if need is Need.NOTHING} == PUBLIC


@pytest.fixture
def routes(app: Flask, database: Database, cast: Cast, scene: Scene) -> list[tuple[str, str, str]]:
    """Every route, with ids of existing rows."""
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.UPDATED]).id
        updated = session.query(BotUpdate.id).scalar()
        bob = session.query(Membership.id).filter_by(user_id=cast.people["bob"]).scalar()
        acme, alice = session.get_one(Org, cast.org_id), session.get_one(User, cast.people["alice"])
        invited = invites.send_invite(
            session, acme, "new@example.com", MembershipRole.MEMBER, actor=alice, now=utcnow()
        ).id
        synced = sync_rows.pending(session, session.get_one(Bot, scene.bots[0]), cast.people["bob"]).id
    return list_requests(
        app,
        slug="acme",
        bot_id=scene.bots[0],
        subdomain="paperclip-1",
        release_id=scene.new,
        rollout_id=made,
        update_id=updated,
        membership_id=bob,
        invite_id=invited,
        user_id=cast.people["bob"],
        org_id=cast.org_id,
        node_id=scene.node,
        row_id=synced,
    )


def test_every_route_opens_to_the_allowed_users_only(
    app: Flask, signed_in: SignedIn, stranger: FlaskClient, routes: list[tuple[str, str, str]]
) -> None:
    roll_back_requests(app)
    wrong = []
    for endpoint, method, address in routes:
        answer = stranger.open(address, method=method)
        to_login = answer.status_code == 303 and str(answer.location).startswith("/login")
        if to_login == (ROUTES[endpoint][0] is Need.NOTHING):
            wrong.append(f"a stranger gets {answer.status_code} from {method} {endpoint}")
    for person in PEOPLE:
        client = signed_in(person)
        cookie = client.get_cookie("flotilla-session")
        assert cookie is not None
        for endpoint, method, address in routes:
            client.set_cookie("flotilla-session", cookie.value)
            status, due = client.open(address, method=method).status_code, expected(endpoint, person)
            if ROUTES[endpoint][0] is not Need.NOTHING and status != due and (due or status in {403, 404}):
                wrong.append(f"{person} gets {status} from {method} {endpoint}, not {due}")
    assert wrong == []


def test_every_public_route_answers_visitors(app: Flask, stranger: FlaskClient) -> None:
    public = {endpoint: status for endpoint, (need, status) in ROUTES.items() if need is Need.NOTHING}
    found = {
        endpoint: stranger.open(address, method=method).status_code
        for endpoint, method, address in list_requests(app)
        if endpoint in public
    }
    assert found == public
