"""Organizations: making one, its name and settings, the switcher, two tabs on two organizations."""

import re
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Event, Membership, Org, OrgState, User, utcnow
from portal.services.orgs import creation
from tests.support.cast import Cast, SignedIn


def orgs_of(client: FlaskClient) -> list[str]:
    """The names on the switcher's page."""
    return re.findall(r'data-slug="[^"]*">([^<]*)</a>', client.get("/orgs").text)


def org(database: Database, slug: str) -> Org:
    """An organization as it is now."""
    with database.reading() as session:
        return session.query(Org).filter_by(slug=slug).one()


def tags(database: Database) -> list[str]:
    """What the log tells, oldest first."""
    with database.reading() as session:
        return [event.tag for event in session.query(Event).order_by(Event.id)]


def version_in(page: str, section: str) -> str:
    """The row version that a form of a page carries."""
    found = re.search(r'name="version"[^>]*value="(\d+)"', page[page.index(f'id="{section}"') :])
    assert found is not None
    return found[1]


@pytest.fixture
def second(database: Database, cast: Cast) -> Org:
    """Another organization of bob's, in which he is alone."""
    with database.transaction() as session:
        return creation.create_org(session, "Beta", session.get_one(User, cast.people["bob"]))


def test_an_organization_belongs_to_who_makes_it(signed_in: SignedIn, database: Database, cast: Cast) -> None:
    mallory = signed_in("mallory")
    assert "You belong to no organization yet" in mallory.get("/").text

    answer = mallory.post("/orgs/new", data={"name": "  Ünïted Bots & Söhne  "})
    assert (answer.status_code, answer.location) == (303, "/o/united-bots-sohne/")
    made = org(database, "united-bots-sohne")
    assert (made.name, made.owner_id) == ("Ünïted Bots & Söhne", cast.people["mallory"])
    assert tags(database) == ["org.created"]
    with database.reading() as session:
        assert session.query(Membership).filter_by(org_id=made.id, user_id=made.owner_id).count() == 1
    # The only one is where she lands from now on.
    assert mallory.get("/").location == "/o/united-bots-sohne/"
    assert "Ünïted Bots &amp; Söhne" in mallory.get("/o/united-bots-sohne/").text


def test_a_name_that_is_taken_gets_another_address(signed_in: SignedIn) -> None:
    assert signed_in("mallory").post("/orgs/new", data={"name": "Acme"}).location == "/o/acme-2/"


@pytest.mark.parametrize(
    ("name", "slug", "complaint"),
    [
        ("", "", "Give it a name"),
        ("x" * 101, "", "at most"),
        ("two\nlines", "", "printable"),
        ("Fine", "Not Lower", "lower-case"),
        ("Fine", "-dash", "lower-case"),
        ("Fine", "ab", "lower-case"),
        ("Fine", "x" * 49, "at most"),
        ("Fine", "admin", "reserved"),
        ("Fine", "www", "reserved"),
        ("Fine", "acme", "taken"),
    ],
)
def test_bad_names_and_addresses_are_explained_beside_the_field(
    signed_in: SignedIn, name: str, slug: str, complaint: str
) -> None:
    answer = signed_in("mallory").post("/orgs/new", data={"name": name, "slug": slug})
    assert answer.status_code == 422
    assert re.search(rf'aria-invalid="true"[\s\S]*invalid-feedback[\s\S]*{complaint}', answer.text), answer.text


def test_html_in_a_name_is_shown_as_it_was_typed(signed_in: SignedIn) -> None:
    mallory = signed_in("mallory")
    page = mallory.get(mallory.post("/orgs/new", data={"name": "<b>Bold</b>"}).location).text
    assert "&lt;b&gt;Bold&lt;/b&gt;" in page
    assert "<b>Bold" not in page


def test_a_deleted_organizations_address_stays_reserved_for_thirty_days(
    signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    def deleted(days: int) -> None:
        with database.transaction() as session:
            row = session.get_one(Org, cast.org_id)
            row.state, row.deleted_at = OrgState.DELETED, utcnow() - timedelta(days=days)

    mallory = signed_in("mallory")
    deleted(29)
    assert mallory.get("/o/acme/").status_code == 404
    assert "taken" in mallory.post("/orgs/new", data={"name": "New", "slug": "acme"}).text
    deleted(31)
    assert mallory.post("/orgs/new", data={"name": "New", "slug": "acme"}).location == "/o/acme/"
    assert org(database, "acme").owner_id == cast.people["mallory"]


def test_the_switcher_lists_ones_own_organizations_only(signed_in: SignedIn, second: Org) -> None:
    bob = signed_in("bob")
    assert orgs_of(bob) == ["Acme", "Beta"]
    assert orgs_of(signed_in("alice")) == ["Acme"]
    assert orgs_of(signed_in("mallory")) == []
    switcher = bob.get("/o/acme/").text.partition('<details class="switcher">')[2].partition("</details>")[0]
    assert re.findall(r'href="/o/([^"]*)/"', switcher) == ["acme", "beta"]
    # With several the browser's own memory decides; the server knows which one was made or joined last.
    assert 'data-go-on="beta"' in bob.get("/").text


def test_what_a_tab_of_one_organization_sends_never_acts_on_another(
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
    # Pages say for htmx whose they are.
    assert f'"X-Tenant-Id": "{second.id}"' in bob.get("/o/beta/").text


def test_renaming_keeps_the_address_and_is_logged_once(signed_in: SignedIn, database: Database) -> None:
    carol = signed_in("carol")
    version = version_in(carol.get("/o/acme/settings").text, "general")
    for name in ("Acme Two", "Acme Two"):
        assert carol.post("/o/acme/settings/name", data={"name": name, "version": version}).status_code == 303
    assert org(database, "acme").name == "Acme Two"
    with database.reading() as session:
        (event,) = session.query(Event)
        assert (event.tag, event.data) == ("org.renamed", {"old": "Acme", "new": "Acme Two"})


def test_renaming_what_somebody_else_renamed_shows_it_fresh(signed_in: SignedIn, database: Database) -> None:
    alice, carol = signed_in("alice"), signed_in("carol")
    version = version_in(carol.get("/o/acme/settings").text, "general")
    alice.post("/o/acme/settings/name", data={"name": "By Alice", "version": version})
    for headers in ({}, {"HX-Request": "true"}):
        answer = carol.post(
            "/o/acme/settings/name?part=general", data={"name": "By Carol", "version": version}, headers=headers
        )
        assert answer.status_code == 409
        assert "meanwhile" in answer.text
        assert 'value="By Alice"' in answer.text
        assert version_in(answer.text, "general") != version
    assert org(database, "acme").name == "By Alice"


def test_a_bad_name_is_refused_in_place(signed_in: SignedIn, database: Database) -> None:
    answer = signed_in("alice").post(
        "/o/acme/settings/name?part=general", data={"name": "", "version": "1"}, headers={"HX-Request": "true"}
    )
    assert answer.status_code == 422
    assert answer.text.lstrip().startswith('<section id="general"')
    assert "Give it a name" in answer.text


def test_settings_show_each_role_what_it_may_do(signed_in: SignedIn) -> None:
    def offers(name: str) -> tuple[bool, bool, bool]:
        page = signed_in(name).get("/o/acme/settings").text
        return 'id="general"' in page, 'id="updates"' in page, "Delete Acme" in page

    assert offers("alice") == (True, True, True)
    assert offers("carol") == (True, True, False)
    assert offers("root") == (False, True, False)
    assert signed_in("bob").get("/o/acme/settings").status_code == 403
    assert "/o/acme/settings" not in signed_in("bob").get("/o/acme/").text


def test_the_billing_link_is_for_owners_and_admins(app: Flask, signed_in: SignedIn) -> None:
    assert "Billing" not in signed_in("alice").get("/o/acme/").text
    app.jinja_env.globals["billing_url"] = "https://billing.example"
    shown = {name for name in ("alice", "carol", "bob", "root") if "Billing" in signed_in(name).get("/o/acme/").text}
    assert shown == {"alice", "carol"}
