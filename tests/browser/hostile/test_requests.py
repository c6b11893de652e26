"""Pages of a hostile bot can neither change nor read anything of the portal and of other bots."""

from __future__ import annotations

import pytest
from playwright.sync_api import Error, expect

from portal.database import Database
from portal.models import User
from tests.browser.hostile.conftest import READ, Stage, shows_victim

pytestmark = pytest.mark.browser

POSTS = """async ([portal]) => {
    const body = new URLSearchParams({name: "Hacked", csrf_token: "x"});
    for (const path of ["/logout", "/account/name", "/account/sessions/end-all", "/o/acme/team/leave"])
        for (const mode of ["no-cors", "cors"])
            await fetch(portal + path, {method: "POST", body, mode, credentials: "include"}).catch(() => null);
    navigator.sendBeacon(portal + "/logout", body);
}"""


def test_posts_to_the_portal_change_nothing(stage: Stage, database: Database) -> None:
    statuses = []
    stage.context.on("response", lambda response: statuses.append((response.request.method, response.status)))
    stage.run(POSTS, stage.portal)
    fields = '<input name="name" value="Hacked">'
    forms = [f'<form method="post" action="{stage.portal}{path}">{fields}<button>{path}</button></form>'
             for path in ("/logout", "/account/name", "/o/acme/team/leave")]  # fmt: skip
    stage.hostile.answer("/forms", "".join(forms))
    for path in ("/logout", "/account/name", "/o/acme/team/leave"):
        stage.page.goto(f"{stage.url(1)}/forms")
        stage.page.get_by_role("button", name=path).click()
        expect(stage.page.get_by_text("came from another site")).to_be_visible()
    posts = [status for method, status in statuses if method == "POST"]
    assert len(posts) >= 7
    assert set(posts) == {403}
    with database.reading() as session:
        assert session.get_one(User, "zoe").name == "Zoe"
    stage.check_victims()


@pytest.mark.parametrize("victim", ["the portal", "another bot"])
def test_pages_of_others_cannot_be_read_or_framed(stage: Stage, victim: str) -> None:
    url = f"{stage.portal}/o/acme/" if victim == "the portal" else f"{stage.url(2)}/data"
    before = len(stage.servers[1].seen)
    outcome = stage.run(READ, url)
    assert outcome["cors"] == outcome["same-origin"] == "TypeError"
    assert outcome["no-cors"] in {"opaque 0", "TypeError"}
    assert outcome["frame"] == "TypeError"
    assert not shows_victim(stage.page.frames[1])
    assert len(stage.servers[1].seen) == before
    stage.check_victims()


@pytest.mark.parametrize("tag", ["script", "img", "link", "embed", "object", "video"])
def test_files_of_another_bot_cannot_be_loaded(stage: Stage, tag: str) -> None:
    before = len(stage.servers[1].seen)
    load = """([tag, url]) => new Promise((resolve) => {
        const element = document.createElement(tag);
        element.onload = element.onerror = element.onloadeddata = () => resolve(true);
        Object.assign(element, {src: url, href: url, data: url, rel: "stylesheet"});
        document.body.append(element);
        setTimeout(() => resolve(false), 1000);
    })"""
    stage.run(load, tag, f"{stage.url(2)}/data.js")
    assert len(stage.servers[1].seen) == before


def test_windows_of_the_portal_cannot_be_controlled(stage: Stage) -> None:
    stage.hostile.answer("/opener", "<script>document.title = String(window.opener)</script>")
    with stage.context.expect_page() as opened:
        stage.run("([url]) => { window.victim = window.open(url); }", f"{stage.portal}/o/acme/")
    expect(opened.value.get_by_role("heading", name="Acme").first).to_be_visible()
    assert opened.value.evaluate("window.opener") is None
    assert stage.run("() => window.victim.closed")
    with stage.context.expect_page() as bot:
        opened.value.evaluate("(url) => { window.open(url); }", f"{stage.url(1)}/opener")
    expect(bot.value).to_have_title("null")


def test_redirects_lead_only_the_browser(stage: Stage) -> None:
    seen = len(stage.servers[1].seen)
    for location in ("http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "file:///etc/passwd"):
        stage.hostile.location = location
        with stage.context.new_page() as page, pytest.raises(Error, match=r"net::ERR_"):
            page.goto(f"{stage.url(1)}/redirect")
    assert len(stage.servers[1].seen) == seen
    stage.hostile.location = f"{stage.portal}/logout"
    stage.page.goto(f"{stage.url(1)}/redirect")
    stage.hostile.location = f"{stage.portal}/open/paperclip-2?state={'x' * 43}&path=/x"
    stage.page.goto(f"{stage.url(1)}/redirect")
    # The browser has a session at the victim, so the foreign ticket is ignored.
    expect(stage.page.get_by_role("heading", name="Victim")).to_be_visible()
    stage.check_victims()
