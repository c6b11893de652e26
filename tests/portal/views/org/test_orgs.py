"""Organizations: creation, name, settings, the switcher, and tabs of different organizations."""

import re
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Event, Membership, Org, OrgState, User, utcnow
from portal.services.orgs import creation
from tests.support.cast import Cast, SignedIn

pytestmark = pytest.mark.requests


def list_orgs(client: FlaskClient) -> list[str]:
    """Return the names on the page with the user's organizations."""
    return re.findall(r'data-slug="[^"]*">([^<]*)</a>', client.get("/orgs").text)


def org(database: Database, slug: str) -> Org:
    """Read the current row of an organization."""
    with database.reading() as session:
        return session.query(Org).filter_by(slug=slug).one()


def tags(database: Database) -> list[str]:
    """Return the tags of all events, the oldest first."""
    with database.reading() as session:
        return [event.tag for event in session.query(Event).order_by(Event.id)]


def version_in(page: str, section: str) -> str:
    """Return the row version that the form of a section carries."""
    found = re.search(r'name="version"[^>]*value="(\d+)"', page[page.index(f'id="{section}"') :])
    assert found is not None
    return found[1]


@pytest.fixture
def second(database: Database, cast: Cast) -> Org:
    """A second organization, which bob owns and has no other members."""
    with database.transaction() as session:
        return creation.create_org(session, "Beta", session.get_one(User, cast.people["bob"]), now=utcnow())


@pytest.mark.every_database
def test_user_owns_the_organization_that_the_user_creates(
    signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    mallory = signed_in("mallory")
    assert "You&#39;re not in an organization yet" in mallory.get("/").text

    answer = mallory.post("/orgs/new", data={"name": "  Ünïted Bots & Söhne  "})
    assert (answer.status_code, answer.location) == (303, "/o/united-bots-sohne/")
    made = org(database, "united-bots-sohne")
    assert (made.name, made.owner_id) == ("Ünïted Bots & Söhne", cast.people["mallory"])
    assert tags(database) == ["org.created"]
    with database.reading() as session:
        assert session.query(Membership).filter_by(org_id=made.id, user_id=made.owner_id).count() == 1
    # The start page leads to the only organization.
    assert mallory.get("/").location == "/o/united-bots-sohne/"
    assert "Ünïted Bots &amp; Söhne" in mallory.get("/o/united-bots-sohne/").text


@pytest.mark.every_database
def test_second_organization_of_a_name_gets_another_slug(signed_in: SignedIn) -> None:
    assert signed_in("mallory").post("/orgs/new", data={"name": "Acme"}).location == "/o/acme-2/"


@pytest.mark.parametrize(
    ("name", "slug", "error"),
    [
        ("", "", "Enter a name"),
        ("x" * 101, "", "at most"),
        ("two\nlines", "", "printable"),
        ("Fine", "Not Lower", "lower-case"),
        ("Fine", "-dash", "lower-case"),
        ("Fine", "ab", "lower-case"),
        ("Fine", "x" * 49, "at most"),
        ("Fine", "admin", "reserved"),
        ("Fine", "www", "reserved"),
        ("Fine", "xn--80ak6aa92e", "dashes"),
        ("Fine", "ab--c", "dashes"),
        ("Your Provider", "", "reserved"),
        ("Flotilla Support", "", "cannot contain"),
        ("Acme \N{CYRILLIC CAPITAL LETTER A}", "", "one alphabet"),
        ("Fine", "acme", "taken"),
    ],
)
def test_invalid_names_and_slugs_are_explained_beside_the_field(
    signed_in: SignedIn, name: str, slug: str, error: str
) -> None:
    answer = signed_in("mallory").post("/orgs/new", data={"name": name, "slug": slug})
    assert answer.status_code == 422
    assert re.search(rf'aria-invalid="true"[\s\S]*invalid-feedback[\s\S]*{error}', answer.text), answer.text


def test_html_in_a_name_is_escaped(signed_in: SignedIn) -> None:
    mallory = signed_in("mallory")
    page = mallory.get(mallory.post("/orgs/new", data={"name": "<b>Bold</b>"}).location).text
    assert "&lt;b&gt;Bold&lt;/b&gt;" in page
    assert "<b>Bold" not in page


@pytest.mark.every_database
def test_slug_of_a_deleted_organization_stays_reserved_for_thirty_days(
    signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    def mark_deleted(days: int) -> None:
        with database.transaction() as session:
            row = session.get_one(Org, cast.org_id)
            row.state, row.deleted_at = OrgState.DELETED, utcnow() - timedelta(days=days)

    mallory = signed_in("mallory")
    mark_deleted(29)
    assert mallory.get("/o/acme/").status_code == 404
    assert "taken" in mallory.post("/orgs/new", data={"name": "New", "slug": "acme"}).text
    mark_deleted(31)
    assert mallory.post("/orgs/new", data={"name": "New", "slug": "acme"}).location == "/o/acme/"
    assert org(database, "acme").owner_id == cast.people["mallory"]


@pytest.mark.every_database
def test_switcher_lists_only_the_organizations_of_the_user(signed_in: SignedIn, second: Org) -> None:
    bob = signed_in("bob")
    assert list_orgs(bob) == ["Acme", "Beta"]
    assert list_orgs(signed_in("alice")) == ["Acme"]
    assert list_orgs(signed_in("mallory")) == []
    switcher = bob.get("/o/acme/").text.partition('<details class="switcher">')[2].partition("</details>")[0]
    assert re.findall(r'href="/o/([^"]*)/"', switcher) == ["acme", "beta"]
    # With several organizations the browser opens the one it showed last, or else the one joined last.
    assert 'data-go-on="beta"' in bob.get("/").text


def test_htmx_request_from_a_tab_of_another_organization_is_refused(
    signed_in: SignedIn, second: Org, database: Database, cast: Cast
) -> None:
    bob = signed_in("bob")
    data = {"name": "Renamed", "version": "1"}
    for sent in (cast.org_id, "nonsense", ""):
        headers = {"HX-Request": "true", "X-Tenant-Id": sent}
        assert bob.post("/o/beta/settings/name", data=data, headers=headers).status_code == 400
        assert bob.get("/o/beta/team?part=members", headers=headers).status_code == 400
    assert org(database, "beta").name == "Beta"
    right = {"HX-Request": "true", "X-Tenant-Id": second.id}
    assert bob.post("/o/beta/settings/name", data=data, headers=right).status_code == 204
    assert org(database, "beta").name == "Renamed"
    # Each page makes htmx send the id of its organization.
    assert f'"X-Tenant-Id": "{second.id}"' in bob.get("/o/beta/").text


@pytest.mark.every_database
def test_rename_keeps_the_slug_and_is_recorded_once(signed_in: SignedIn, database: Database) -> None:
    carol = signed_in("carol")
    version = version_in(carol.get("/o/acme/settings").text, "general")
    for name in ("Acme Two", "Acme Two"):
        assert carol.post("/o/acme/settings/name", data={"name": name, "version": version}).status_code == 303
    assert org(database, "acme").name == "Acme Two"
    with database.reading() as session:
        (event,) = session.query(Event)
        assert (event.tag, event.data) == ("org.renamed", {"old": "Acme", "new": "Acme Two"})


def test_rename_of_a_changed_organization_shows_the_current_name(signed_in: SignedIn, database: Database) -> None:
    alice, carol = signed_in("alice"), signed_in("carol")
    version = version_in(carol.get("/o/acme/settings").text, "general")
    alice.post("/o/acme/settings/name", data={"name": "By Alice", "version": version})
    for headers in ({}, {"HX-Request": "true"}):
        answer = carol.post(
            "/o/acme/settings/name?part=general", data={"name": "By Carol", "version": version}, headers=headers
        )
        assert answer.status_code == 409
        assert "Another person changed these settings" in answer.text
        assert 'value="By Alice"' in answer.text
        assert version_in(answer.text, "general") != version
    assert org(database, "acme").name == "By Alice"


def test_invalid_new_name_is_refused_beside_the_field(signed_in: SignedIn, database: Database) -> None:
    answer = signed_in("alice").post(
        "/o/acme/settings/name?part=general", data={"name": "", "version": "1"}, headers={"HX-Request": "true"}
    )
    assert answer.status_code == 422
    assert answer.text.lstrip().startswith('<section id="general"')
    assert "Enter a name" in answer.text


def test_settings_show_only_what_the_role_may_change(signed_in: SignedIn) -> None:
    def offers(name: str) -> tuple[bool, bool, bool]:
        page = signed_in(name).get("/o/acme/settings").text
        return 'id="general"' in page, 'id="updates"' in page, "Delete Acme" in page

    assert offers("alice") == (True, True, True)
    assert offers("carol") == (True, True, False)
    assert offers("root") == (False, True, False)
    assert signed_in("bob").get("/o/acme/settings").status_code == 403
    assert "/o/acme/settings" not in signed_in("bob").get("/o/acme/").text


def test_billing_link_is_shown_to_owners_and_admins_only(app: Flask, signed_in: SignedIn) -> None:
    assert "Billing" not in signed_in("alice").get("/o/acme/").text
    app.jinja_env.globals["billing_url"] = "https://billing.example"
    shown = {name for name in ("alice", "carol", "bob", "root") if "Billing" in signed_in(name).get("/o/acme/").text}
    assert shown == {"alice", "carol"}
