"""Cookies and headers of a hostile bot change no session of the portal and of other bots."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.hostile.conftest import COOKIE, Stage

pytestmark = pytest.mark.browser


def test_the_stage_is_one_site_with_secure_cookies(stage: Stage) -> None:
    names = {(domain.partition(".")[0], name) for domain, name in stage.cookies()}
    assert {("portal", "__Host-flotilla-session"), ("paperclip-1", COOKIE), ("paperclip-2", COOKIE)} <= names
    stage.hostile.answer("/link", f'<a href="{stage.url(2)}/linked">Victim</a>')
    stage.page.goto(f"{stage.url(1)}/link")
    stage.page.get_by_role("link").click()
    expect(stage.page.get_by_role("heading", name="Victim")).to_be_visible()
    (linked,) = [seen for seen in stage.servers[1].seen if seen.target == "/linked"]
    assert linked.values("sec-fetch-site") == ["same-site"]


def test_headers_that_harm_other_hosts_are_dropped(stage: Stage) -> None:
    before = stage.cookies()
    names = ("flotilla-session", "__Host-flotilla-session", COOKIE, "__Secure-flotilla-gateway", "evil")
    attributes = ("; Max-Age=0", "", "; Domain=fleet.test", "; Domain=.bots.fleet.test", "; domain = fleet.test")
    cookies = [f"{name}=evil; Path=/; Secure{end}" for name in names for end in attributes]
    cookies += [f"=={COOKIE}=evil; Secure; Path=/", f"{COOKIE.lower()}=evil; Secure; Path=/", COOKIE, "=evil; Secure"]
    stage.hostile.answer(
        "/headers",
        "<h1>Headers</h1>",
        *(("Set-Cookie", cookie) for cookie in cookies),
        ("Set-Cookie", "own=1; Path=/; Secure"),
        ("Clear-Site-Data", '"*"'),
        ("Strict-Transport-Security", "max-age=99999; includeSubDomains"),
        ("Service-Worker-Allowed", "/"),
    )
    stage.page.goto(f"{stage.url(1)}/headers")
    expect(stage.page.get_by_role("heading", name="Headers")).to_be_visible()
    own = stage.page.url.split("/")[2].partition(":")[0]
    added = {key: value for key, value in stage.cookies().items() if before.get(key) != value}
    assert added == {(own, "own"): "1", (own, "evil"): "evil"}
    assert before.keys() <= stage.cookies().keys()
    stage.check_victims()


def test_cookies_of_scripts_change_no_session_and_never_arrive_as_ours(stage: Stage) -> None:
    names = ("flotilla-session", "flotilla-gateway", "__Host-flotilla-session", COOKIE, "__host-flotilla-gateway")
    ends = ("", "; Domain=fleet.test", "; Domain=bots.fleet.test", "; Domain=bots.fleet.test; Path=/notes")
    values = [f"{start}{name}=evil; Secure{end}" for start in ("", "=", " ") for name in names for end in ends]
    before = {key: value for key, value in stage.cookies().items() if key[1].startswith("__Host-")}
    stage.run("([values]) => values.forEach((value) => (document.cookie = value))", values)
    after = stage.cookies()
    assert {key: after.get(key) for key in before} == before
    assert (".fleet.test", "flotilla-session") in after  # scripts may do this, so it has to be harmless
    stage.check_victims()
    with stage.context.new_page() as page:
        page.goto(f"{stage.url(2)}/notes")
        expect(page.get_by_role("heading", name="Victim")).to_be_visible()
    seen = [seen.values("cookie") for bot in stage.servers for seen in bot.seen]
    assert not any("flotilla-" in str(cookie) for cookie in seen)


def test_too_many_cookies_get_an_explanation(stage: Stage) -> None:
    stage.run(
        "() => { for (let n = 0; n < 9; n++) document.cookie = `a${n}=${'x'.repeat(3000)}; Domain=bots.fleet.test`; }"
    )
    with stage.context.new_page() as page:
        response = page.goto(f"{stage.url(2)}/")
        assert response is not None
        assert response.status == 431
        expect(page.get_by_text("delete the cookies")).to_be_visible()
        stage.context.clear_cookies(domain=re.compile(r"^\.bots"))
    stage.check_victims()
