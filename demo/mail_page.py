"""The mail page: a web application that shows the mails of the demo's mail server. Used by `demo.mail_server`."""

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
    """Create the web application that shows the mails of a Maildir.

    Args:
        folder: the Maildir.
    """
    page = Flask("mails", template_folder=str(Path(__file__).parent / "templates"))
    # Refusing other host names prevents DNS rebinding: a foreign site could otherwise read the mails.
    page.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost"]
    page.jinja_env.undefined = StrictUndefined
    page.jinja_env.trim_blocks = page.jinja_env.lstrip_blocks = True

    @page.get("/")
    def mails() -> str:
        return render_template(
            "mails.html",
            mails=[(file.name, _read_mail(file), _arrived_at(file)) for file in _list_newest_first(folder)],
        )

    @page.get("/<name>")
    def mail(name: str) -> str:
        file = _find_mail(folder, name)
        message = _read_mail(file)
        return render_template(
            "mail.html",
            name=name,
            message=message,
            arrived=_arrived_at(file),
            text=_body(message, "plain"),
            html=_body(message, "html"),
            sandbox=_SANDBOX,
        )

    @page.get("/<name>/html")
    def html(name: str) -> Response:
        # Links open in the whole window, because the portal refuses to be shown in a frame.
        body = _body(_read_mail(_find_mail(folder, name)), "html").replace("<head>", '<head><base target="_top">', 1)
        return Response(body, headers={"Content-Security-Policy": _MAIL_POLICY})

    @page.after_request
    def set_headers(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", _POLICY)
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-store"
        return response

    return page


def create_server(folder: Path, port: int) -> BaseWSGIServer:
    """Create an HTTP server for the page that listens on loopback only."""
    app = create_mail_page(folder)
    return make_server("127.0.0.1", port, app, threaded=True, request_handler=_QuietRequestHandler)


class _QuietRequestHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - werkzeug's name
        """Log nothing: the terminal shows the progress of the demo."""


def _list_newest_first(folder: Path) -> list[Path]:
    # `new` contains complete mails only: the mail server writes elsewhere and then renames.
    return sorted((folder / "new").glob("*"), key=lambda file: file.stat().st_mtime_ns, reverse=True)


def _find_mail(folder: Path, name: str) -> Path:
    return next((file for file in _list_newest_first(folder) if file.name == name), None) or abort(404)


def _read_mail(file: Path) -> EmailMessage:
    with file.open("rb") as stream:
        return BytesParser(EmailMessage, policy=policy.default).parse(stream)


def _body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    return str(part.get_content()) if part else ""


def _arrived_at(file: Path) -> datetime:
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)
