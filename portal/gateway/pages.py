"""Pages of the gateway, in the portal's look: what happened, and what to do. Used by the handler of requests.

A page is only for people who open a page in the browser. Scripts get its text as one line.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from portal.gateway.http.own_responses import NOT_STORED, OwnResponse, text_response
from portal.gateway.http.requests import BrowserRequest
from portal.paths import ROOT
from portal.rules.bot_paths import GATEWAY_PREFIX, is_local_path
from portal.settings import Settings

_ASSETS = {
    "tabler.css": (ROOT / "static/tabler.css", "text/css"),
    "app.css": (ROOT / "static/app.css", "text/css"),
    "theme.js": (ROOT / "static/theme.js", "text/javascript"),
    "reload.js": (ROOT / "static/reload.js", "text/javascript"),
}
ASSETS_PREFIX = f"{GATEWAY_PREFIX}assets/"
_STORED = ("Cache-Control", "public, max-age=31536000, immutable")


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of the gateway.

    Attributes:
        status: the status of the response.
        title: what happened; `{bot}` is replaced by the name of the bot.
        text: what it means, and what to do.
        refresh_seconds: after how long the page reloads; None if reloading does not help.
        retry_label: label of a link to the same page, or to the bot's first page after a form; None without a link.
    """

    status: HTTPStatus
    title: str
    text: str
    refresh_seconds: int | None = None
    retry_label: str | None = None

    def for_form(self) -> Page:
        """Return the page that a person sees after submitting a form, which must not be sent again unasked."""
        if self.refresh_seconds is None:
            return self
        text = f"{self.text} What you just sent was not saved. Go back and send it again later."
        return replace(self, text=text, refresh_seconds=None)


NOT_FOUND = Page(
    status=HTTPStatus.NOT_FOUND,
    title="Bot not found",
    text="This bot does not exist, or you don't have access to it. Ask an admin of your organization for an invite.",
)
PROVISIONING = Page(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    title="{bot} is getting ready for you",
    text=(
        "Your access is being set up. This usually takes less than a minute. If it takes longer, tell an admin of "
        "your organization."
    ),
    refresh_seconds=5,
)
CHANGING = Page(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    title="Your access is being updated",
    text="The bot has not confirmed your current role yet. You can continue as soon as it has.",
    refresh_seconds=5,
)
REMOVING = Page(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    title="{bot} will be removed",
    text="The bot is stopped. Its page in the portal says when it is removed and whether its data is kept.",
    refresh_seconds=30,
)
STOPPED = Page(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    title="{bot} is stopped",
    text="An admin of your organization can start it. Your data is kept.",
    refresh_seconds=30,
)
UPDATING = Page(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    title="{bot} is being updated",
    text="This usually takes less than a minute. Your data is kept.",
    refresh_seconds=5,
)
UNREACHABLE = Page(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    title="{bot} does not answer",
    text="The bot may be restarting. If this takes more than a few minutes, tell an admin of your organization.",
    refresh_seconds=10,
)
BAD_RESPONSE = Page(
    status=HTTPStatus.BAD_GATEWAY,
    title="{bot} sent no valid response",
    text="The bot received your request, but its response was cut off. Check whether your change was saved.",
    retry_label="Try again",
)
TOO_SLOW = Page(
    status=HTTPStatus.GATEWAY_TIMEOUT,
    title="{bot} takes too long",
    text="The bot received your request, but did not answer in time. Check whether your change was saved.",
    retry_label="Try again",
)
TOO_MANY = Page(
    status=HTTPStatus.TOO_MANY_REQUESTS,
    title="Too many requests",
    text="You have too many requests or tabs open at the same time. Close some, then try again.",
    retry_label="Try again",
)
SIGNED_OUT = Page(
    status=HTTPStatus.UNAUTHORIZED,
    title="You are signed out",
    text="What you just sent was not saved. Sign in, then send it again.",
    retry_label="Sign in",
)
NO_DECISION = Page(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    title="We can't check your access right now",
    text="The platform has a problem. Your bot and its data are not affected.",
    refresh_seconds=10,
)
EXPIRED = Page(
    status=HTTPStatus.BAD_REQUEST,
    title="This link has expired",
    text="Each link works once, for one minute. If this happens again, allow cookies for this address.",
    retry_label="Open the bot again",
)
FAILED = Page(
    status=HTTPStatus.INTERNAL_SERVER_ERROR,
    title="Something went wrong",
    text="The error was logged. Try again in a moment.",
    retry_label="Try again",
)


class PageRenderer:
    """Renders pages, and serves the files that they use.

    Args:
        settings: settings of this installation.
    """

    def __init__(self, settings: Settings) -> None:
        loader = FileSystemLoader(ROOT / "templates")
        environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        self._template = environment.get_template("gateway/page.html")
        self._product_name = settings.product_name
        self._portal_url = settings.base_url
        # Without `npm ci` some files are missing; pages then work without styles.
        self._files = {name: (_read(path), kind) for name, (path, kind) in _ASSETS.items()}
        self._urls = {name: _versioned_url(name, content) for name, (content, _) in self._files.items()}

    def render(self, page: Page, browser: BrowserRequest, *, bot_name: str = "This bot") -> OwnResponse:
        """Return the response with a page, or with its text for scripts."""
        headers = []
        if page.refresh_seconds and page.status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append(("Retry-After", str(page.refresh_seconds)))
        title = page.title.format(bot=bot_name)
        if not browser.is_navigation:
            return text_response(page.status, f"{title}. {page.text}", *headers)
        if not browser.can_be_repeated:
            page = page.for_form()
        html = self._template.render(
            page=page,
            title=title,
            retry_url=_find_retry_url(browser),
            product_name=self._product_name,
            portal_url=self._portal_url,
            styles=[self._urls["tabler.css"], self._urls["app.css"]],
            scripts=[self._urls["theme.js"], self._urls["reload.js"]],
        )
        return OwnResponse(page.status, html.encode(), "text/html; charset=utf-8", [NOT_STORED, *headers])

    def serve_asset(self, name: str) -> OwnResponse:
        """Return a file that pages use. Its URL changes with its content, so browsers may keep it."""
        if name not in self._files:
            return text_response(HTTPStatus.NOT_FOUND, "There is no such file.")
        content, kind = self._files[name]
        return OwnResponse(HTTPStatus.OK, content, f"{kind}; charset=utf-8", [_STORED])


def _find_retry_url(browser: BrowserRequest) -> str:
    is_own = browser.path.startswith(GATEWAY_PREFIX)
    return browser.target if browser.can_be_repeated and not is_own and is_local_path(browser.target) else "/"


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _versioned_url(name: str, content: bytes) -> str:
    return f"{ASSETS_PREFIX}{name}?v={hashlib.sha256(content).hexdigest()[:10]}"
