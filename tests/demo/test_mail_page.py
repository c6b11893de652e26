"""Tests of the demo's mail server and mail page, partly in a browser."""

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
from demo.config import DemoConfig, load_config
from demo.mail_server import running_mail_server
from portal.models import utcnow
from portal.settings import MailSettings


@dataclass(frozen=True)
class Inbox:
    """A running mail server with its page."""

    config: DemoConfig

    def receive(self, email: Email, to: str = "new@demo.example") -> None:
        """Send an email to the mail server."""
        settings = MailSettings(
            server="127.0.0.1",
            port=self.config.smtp_port,
            username=None,
            password=None,
            use_tls=False,
            use_ssl=False,
            sender="Flotilla demo <flotilla@demo.example>",
        )
        about = {"product": "Flotilla", "home": self.config.base_url}
        text, html = render(email, about, "text"), render(email, about, "html")
        deliver(settings, OutgoingMessage(to, email.subject, text, html, "<1@demo.example>"))

    def get(self, path: str, host: str | None = None) -> tuple[int, str]:
        """Request a page, by default with the server's own host name, and return status and body."""
        connection = HTTPConnection("127.0.0.1", self.config.mail_page_port, timeout=10)
        connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{self.config.mail_page_port}"})
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    config = load_config(tmp_path / "demo")
    with running_mail_server(config):
        yield Inbox(config)


def sign_up_email(inbox: Inbox, subject: str = "Finish your sign-up to Flotilla") -> Email:
    # The link leads to an existing page, the list of mails.
    return Email("signup", subject, facts={"link": inbox.config.mail_url, "until": utcnow()})


def test_newest_mail_is_listed_first(inbox: Inbox) -> None:
    assert "No mails yet" in inbox.get("/")[1]

    inbox.receive(sign_up_email(inbox, "The first one"))
    inbox.receive(sign_up_email(inbox, "The second one"))

    listed = inbox.get("/")[1]
    assert listed.index("The second one") < listed.index("The first one")


def test_links_in_text_and_html_open_in_the_whole_window(inbox: Inbox, page: Page) -> None:
    inbox.receive(sign_up_email(inbox))
    for place in ("text", "html"):
        page.goto(inbox.config.mail_url)
        page.get_by_role("link", name="Finish your sign-up").click()
        expect(page.get_by_role("heading", name="Finish your sign-up to Flotilla", exact=True)).to_be_visible()
        if place == "text":
            page.locator("pre").get_by_role("link").first.click()
        else:
            page.frame_locator("iframe").get_by_role("link", name="Finish sign-up").click()
        expect(page.get_by_role("heading", name="Inbox")).to_be_visible()
        expect(page.locator("iframe")).to_have_count(0)


def test_request_with_a_foreign_host_name_is_refused(inbox: Inbox) -> None:
    inbox.receive(sign_up_email(inbox))

    status, body = inbox.get("/", host="evil.example.com")

    assert status == 400
    assert "sign-up" not in body


def test_unknown_mail_is_not_found(inbox: Inbox) -> None:
    for path in ("/nothing", "/..%2f..%2fhome.json", "/nothing/html"):
        assert inbox.get(path)[0] == 404


def test_missing_values_are_added_to_an_older_configuration(tmp_path: Path) -> None:
    first = load_config(tmp_path)
    file = tmp_path / "home.json"
    stored = json.loads(file.read_text())
    del stored["mail_page_port"]
    file.write_text(json.dumps(stored))

    again = load_config(tmp_path)

    assert again.web_port == first.web_port
    assert again.mail_page_port == load_config(tmp_path).mail_page_port
