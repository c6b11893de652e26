"""The demo's mail program: a page on loopback where the mails that were caught are read and their links followed."""

from __future__ import annotations

from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

from flask import Flask, Response, abort, render_template
from jinja2 import StrictUndefined
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

_SANDBOX = "allow-top-navigation-by-user-activation"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; form-action 'none'"
_MAIL_POLICY = f"default-src 'none'; style-src 'unsafe-inline'; sandbox {_SANDBOX}"


def create_mail_page(folder: Path) -> Flask:
    """The page.

    Args:
        folder: the Maildir.
    """
    page = Flask("mails", template_folder=str(Path(__file__).parent / "templates"))
    # Other names would let any site that a visitor of this machine opens read the mails, by pointing them here.
    page.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost"]
    page.jinja_env.undefined = StrictUndefined
    page.jinja_env.trim_blocks = page.jinja_env.lstrip_blocks = True

    @page.get("/")
    def mails() -> str:
        return render_template(
            "mails.html", mails=[(file.name, _read(file), _arrival(file)) for file in _newest(folder)]
        )

    @page.get("/<name>")
    def mail(name: str) -> str:
        file = _find(folder, name)
        message = _read(file)
        return render_template(
            "mail.html",
            name=name,
            message=message,
            arrived=_arrival(file),
            text=_body(message, "plain"),
            html=_body(message, "html"),
            sandbox=_SANDBOX,
        )

    @page.get("/<name>/html")
    def html(name: str) -> Response:
        # Links leave the frame, for the portal refuses to be shown in one.
        body = _body(_read(_find(folder, name)), "html").replace("<head>", '<head><base target="_top">', 1)
        return Response(body, headers={"Content-Security-Policy": _MAIL_POLICY})

    @page.after_request
    def strict(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", _POLICY)
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-store"
        return response

    return page


def listen(folder: Path, port: int) -> BaseWSGIServer:
    """A server for the page, on loopback only."""
    return make_server("127.0.0.1", port, create_mail_page(folder), threaded=True, request_handler=_Quiet)


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - werkzeug's name
        """The demo's terminal has more to say than who read a mail."""


def _newest(folder: Path) -> list[Path]:
    # The mail server renames a mail into this folder when it is complete.
    return sorted((folder / "new").glob("*"), key=lambda file: file.stat().st_mtime_ns, reverse=True)


def _find(folder: Path, name: str) -> Path:
    return next((file for file in _newest(folder) if file.name == name), None) or abort(404)


def _read(file: Path) -> EmailMessage:
    with file.open("rb") as stream:
        return BytesParser(EmailMessage, policy=policy.default).parse(stream)


def _body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    return str(part.get_content()) if part else ""


def _arrival(file: Path) -> datetime:
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)
