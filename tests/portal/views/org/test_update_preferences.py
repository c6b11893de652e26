"""Update settings of an organization: its own choice, row versions, and the override by an operator."""

import re

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.database import Database
from portal.models import Event, TenantMode, TenantUpdateConfig
from tests.portal.views.org.test_orgs import version_in
from tests.support.cast import Cast, SignedIn

pytestmark = pytest.mark.requests

ADDRESS = "/o/acme/settings/updates"


def choose(client: FlaskClient, mode: str, hour: int, version: str | None = None) -> int:
    """Submit the form of the current page and return the status."""
    version = version_in(client.get("/o/acme/settings").text, "updates") if version is None else version
    return client.post(ADDRESS, data={"mode": mode, "hour": hour, "version": version}).status_code


def lift(client: FlaskClient, version: str) -> TestResponse:
    """Lift the override with a form that shows this version."""
    return client.post(f"{ADDRESS}/lift-override", data={"version": version})


def list_versions(page: str) -> list[str]:
    """Return the row versions in the forms about updates."""
    return re.findall(r'name="version"[^>]*value="(\d+)"', page[page.index('id="updates"') :])


def read_stored(database: Database, cast: Cast) -> tuple[TenantMode, int, bool] | None:
    """Read the stored mode, hour and override; None without a row."""
    with database.reading() as session:
        row = session.get(TenantUpdateConfig, cast.org_id)
        return (row.mode, row.preferred_hour_utc, row.overridden_by_operator) if row else None


def test_updates_are_manual_by_default(signed_in: SignedIn, database: Database, cast: Cast) -> None:
    page = signed_in("alice").get("/o/acme/settings").text
    assert 'checked class="form-check-input" id="mode-1" name="mode" type="radio" value="manual"' in page
    assert "Next update hour" not in page

    assert choose(signed_in("carol"), "auto", 22) == 303
    assert read_stored(database, cast) == (TenantMode.AUTO, 22, False)
    page = signed_in("alice").get("/o/acme/settings").text
    assert '<option selected value="22">22:00 UTC</option>' in page
    assert "Next update hour: <time" in page
    with database.reading() as session:
        (event,) = session.query(Event).filter_by(tag="config.changed")
        assert (event.actor_id, event.data["new"]["hour_utc"]) == (cast.people["carol"], 22)


@pytest.mark.parametrize(("mode", "hour"), [("auto", 24), ("auto", -1), ("sometimes", 3), ("", 3)])
def test_invalid_mode_or_hour_is_refused(
    signed_in: SignedIn, database: Database, cast: Cast, mode: str, hour: int
) -> None:
    assert choose(signed_in("alice"), mode, hour) == 422
    assert read_stored(database, cast) is None


@pytest.mark.every_database
def test_form_with_an_old_version_is_refused_and_shows_the_stored_values(
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
    assert read_stored(database, cast) == (TenantMode.AUTO, 5, False)
    assert choose(carol, "manual", 7) == 303


def test_organization_can_see_but_not_change_an_override(signed_in: SignedIn, database: Database, cast: Cast) -> None:
    root, alice = signed_in("root"), signed_in("alice")
    assert choose(root, "auto", 4) == 303
    assert read_stored(database, cast) == (TenantMode.AUTO, 4, True)
    page = alice.get("/o/acme/settings").text
    assert "Managed by your provider" in page
    assert "Return control" not in page
    assert choose(alice, "manual", 3) == 403
    assert alice.post(f"{ADDRESS}/lift-override").status_code == 403
    assert read_stored(database, cast) == (TenantMode.AUTO, 4, True)

    assert lift(root, "1").status_code == 303
    assert read_stored(database, cast) == (TenantMode.AUTO, 4, False)
    assert choose(alice, "manual", 3) == 303


def test_lifting_an_override_with_an_old_version_is_refused(
    signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    root = signed_in("root")
    assert choose(root, "auto", 4) == 303
    seen = list_versions(root.get("/o/acme/settings").text)
    assert seen == ["1", "1"], "both forms about updates carry the version"
    assert choose(root, "manual", 9) == 303

    answer = lift(root, seen[1])
    assert answer.status_code == 409
    assert "Another person changed the update settings" in answer.text
    assert list_versions(answer.text) == ["2", "2"]
    assert read_stored(database, cast) == (TenantMode.MANUAL, 9, True)

    admin_page = f"/admin/orgs/{cast.org_id}"
    stale = root.post(f"{admin_page}/lift", data={"version": seen[1]})
    assert stale.status_code == 409
    assert read_stored(database, cast) == (TenantMode.MANUAL, 9, True)
    assert list_versions(stale.text) == ["2", "2"]
    assert root.post(f"{admin_page}/lift", data={"version": "2"}).status_code == 303
    assert read_stored(database, cast) == (TenantMode.MANUAL, 9, False)


@pytest.mark.parametrize("version", ["", "many"])
def test_lifting_an_override_without_a_version_is_refused(signed_in: SignedIn, cast: Cast, version: str) -> None:
    root = signed_in("root")
    assert lift(root, version).status_code == 422
    assert root.post(f"/admin/orgs/{cast.org_id}/lift", data={"version": version}).status_code == 422
