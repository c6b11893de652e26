"""How an organization wants its updates: its own choice, row versions, and the provider's override."""

import re

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.database import Database
from portal.models import Event, TenantMode, TenantUpdateConfig
from tests.portal.views.org.test_orgs import version_in
from tests.support.cast import Cast, SignedIn

ADDRESS = "/o/acme/settings/updates"


def choose(client: FlaskClient, mode: str, hour: int, version: str | None = None) -> int:
    """Send the form as the page has it; gives the status."""
    version = version_in(client.get("/o/acme/settings").text, "updates") if version is None else version
    return client.post(ADDRESS, data={"mode": mode, "hour": hour, "version": version}).status_code


def let_decide(client: FlaskClient, version: str) -> TestResponse:
    """Lift the provider's override as somebody does who saw this version."""
    return client.post(f"{ADDRESS}/own", data={"version": version})


def versions(page: str) -> list[str]:
    """The row versions in the forms about updates."""
    return re.findall(r'name="version"[^>]*value="(\d+)"', page[page.index('id="updates"') :])


def stored(database: Database, cast: Cast) -> tuple[TenantMode, int, bool] | None:
    """Mode, hour, and whether the provider decided."""
    with database.reading() as session:
        row = session.get(TenantUpdateConfig, cast.org_id)
        return (row.mode, row.preferred_hour_utc, row.overridden_by_operator) if row else None


def test_updates_are_by_hand_until_somebody_chooses(signed_in: SignedIn, database: Database, cast: Cast) -> None:
    page = signed_in("alice").get("/o/acme/settings").text
    assert 'checked class="form-check-input" id="mode-1" name="mode" type="radio" value="manual"' in page
    assert "Next window" not in page

    assert choose(signed_in("carol"), "auto", 22) == 303
    assert stored(database, cast) == (TenantMode.AUTO, 22, False)
    page = signed_in("alice").get("/o/acme/settings").text
    assert '<option selected value="22">22:00 UTC</option>' in page
    assert "Next window: <time" in page
    with database.reading() as session:
        (event,) = session.query(Event).filter_by(tag="config.changed")
        assert (event.actor_id, event.data["new"]["hour_utc"]) == (cast.people["carol"], 22)


@pytest.mark.parametrize(("mode", "hour"), [("auto", 24), ("auto", -1), ("sometimes", 3), ("", 3)])
def test_nonsense_is_refused(signed_in: SignedIn, database: Database, cast: Cast, mode: str, hour: int) -> None:
    assert choose(signed_in("alice"), mode, hour) == 422
    assert stored(database, cast) is None


def test_of_two_forms_the_second_gets_what_the_first_stored(
    signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    alice, carol = signed_in("alice"), signed_in("carol")
    seen = version_in(carol.get("/o/acme/settings").text, "updates")
    assert choose(alice, "auto", 5) == 303
    answer = carol.post(
        f"{ADDRESS}?part=updates", data={"mode": "manual", "hour": 7, "version": seen}, headers={"HX-Request": "true"}
    )
    assert answer.status_code == 409
    assert answer.text.lstrip().startswith('<section id="updates"')
    assert '<option selected value="5">' in answer.text
    assert stored(database, cast) == (TenantMode.AUTO, 5, False)
    assert choose(carol, "manual", 7) == 303


def test_what_the_provider_decided_the_organization_can_only_look_at(
    signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    root, alice = signed_in("root"), signed_in("alice")
    assert choose(root, "auto", 4) == 303
    assert stored(database, cast) == (TenantMode.AUTO, 4, True)
    page = alice.get("/o/acme/settings").text
    assert "Managed by your provider" in page
    assert "decide again" not in page
    assert choose(alice, "manual", 3) == 403
    assert alice.post(f"{ADDRESS}/own").status_code == 403
    assert stored(database, cast) == (TenantMode.AUTO, 4, True)

    assert let_decide(root, "1").status_code == 303
    assert stored(database, cast) == (TenantMode.AUTO, 4, False)
    assert choose(alice, "manual", 3) == 303


def test_letting_decide_again_undoes_no_newer_decision(signed_in: SignedIn, database: Database, cast: Cast) -> None:
    root = signed_in("root")
    assert choose(root, "auto", 4) == 303
    seen = versions(root.get("/o/acme/settings").text)
    assert seen == ["1", "1"], "both forms about updates carry it"
    assert choose(root, "manual", 9) == 303

    answer = let_decide(root, seen[1])
    assert answer.status_code == 409
    assert "Somebody else changed the update preferences" in answer.text
    assert versions(answer.text) == ["2", "2"]
    assert stored(database, cast) == (TenantMode.MANUAL, 9, True)

    here = f"/admin/orgs/{cast.org_id}"
    stale = root.post(f"{here}/lift", data={"version": seen[1]})
    assert stale.status_code == 409
    assert stored(database, cast) == (TenantMode.MANUAL, 9, True)
    assert versions(stale.text) == ["2", "2"]
    assert root.post(f"{here}/lift", data={"version": "2"}).status_code == 303
    assert stored(database, cast) == (TenantMode.MANUAL, 9, False)


@pytest.mark.parametrize("version", ["", "many"])
def test_letting_decide_again_says_what_was_seen(signed_in: SignedIn, cast: Cast, version: str) -> None:
    root = signed_in("root")
    assert let_decide(root, version).status_code == 422
    assert root.post(f"/admin/orgs/{cast.org_id}/lift", data={"version": version}).status_code == 422
