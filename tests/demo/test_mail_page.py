"""The demo's mail program: mails are caught, read in a browser, and their links followed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from daemon.mail.emails import Email
from daemon.mail.rendering import render
from daemon.mail.smtp import OutgoingMessage, deliver
from demo.home import Home, open_home
from demo.mailbox import running_mailbox
from portal.models import utcnow
from portal.settings import MailSettings


@dataclass(frozen=True)
class Inbox:
    """The running mail program of a demo."""

    home: Home

    def receive(self, email: Email, to: str = "new@demo.example") -> None:
        """Mail a letter to somebody of the demo."""
        settings = MailSettings(
            server="127.0.0.1",
            port=self.home.smtp_port,
            username=None,
            password=None,
            use_tls=False,
            use_ssl=False,
            sender="Flotilla demo <flotilla@demo.example>",
        )
        about = {"product": "Flotilla", "home": self.home.base_url}
        text, html = render(email, about, "text"), render(email, about, "html")
        deliver(settings, OutgoingMessage(to, email.subject, text, html, "<1@demo.example>"))

    def get(self, path: str, host: str | None = None) -> tuple[int, str]:
        """Status and body of a page, asked for under a name of the machine."""
        connection = HTTPConnection("127.0.0.1", self.home.mail_page_port, timeout=10)
        connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{self.home.mail_page_port}"})
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    home = open_home(tmp_path / "demo")
    with running_mailbox(home):
        yield Inbox(home)


def letter(inbox: Inbox, subject: str = "Finish your sign-up to Flotilla") -> Email:
    # The link leads to a page that is there: the list of mails.
    return Email("signup", subject, facts={"link": inbox.home.mail_url, "until": utcnow()})


def test_the_newest_mail_is_on_top(inbox: Inbox) -> None:
    assert "No mail yet" in inbox.get("/")[1]

    inbox.receive(letter(inbox, "The first one"))
    inbox.receive(letter(inbox, "The second one"))

    listed = inbox.get("/")[1]
    assert listed.index("The second one") < listed.index("The first one")


def test_links_are_followed_from_the_text_and_out_of_the_frame(inbox: Inbox, page: Page) -> None:
    inbox.receive(letter(inbox))
    for place in ("text", "html"):
        page.goto(inbox.home.mail_url)
        page.get_by_role("link", name="Finish your sign-up").click()
        expect(page.get_by_role("heading", name="Finish your sign-up to Flotilla", exact=True)).to_be_visible()
        if place == "text":
            page.locator("pre").get_by_role("link").first.click()
        else:
            page.frame_locator("iframe").get_by_role("link", name="Finish the sign-up").click()
        expect(page.get_by_role("heading", name="Mails of the demo")).to_be_visible()
        expect(page.locator("iframe")).to_have_count(0)


def test_other_sites_cannot_read_the_mails_by_a_name_of_theirs(inbox: Inbox) -> None:
    inbox.receive(letter(inbox))

    status, body = inbox.get("/", host="evil.example.com")

    assert status == 400
    assert "sign-up" not in body


def test_what_is_no_mail_is_not_found(inbox: Inbox) -> None:
    for path in ("/nothing", "/..%2f..%2fhome.json", "/nothing/html"):
        assert inbox.get(path)[0] == 404


def test_a_home_of_an_older_demo_gets_what_it_lacks(tmp_path: Path) -> None:
    first = open_home(tmp_path)
    file = tmp_path / "home.json"
    remembered = json.loads(file.read_text())
    del remembered["mail_page_port"]
    file.write_text(json.dumps(remembered))

    again = open_home(tmp_path)

    assert again.web_port == first.web_port
    assert again.mail_page_port == open_home(tmp_path).mail_page_port
