"""Logging: one line per record, with the id of the request or job and without secrets. Used by all processes."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import urlsplit

from portal.rules.outside_text import escape_unsafe
from portal.services.events import current_request_id
from portal.settings import Settings

_HIDDEN = "***"
# A password in a URL (`redis://:secret@host`), and the value after `Bearer` or `Basic` in a header.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+(?=@)|(?<=\bBearer )\S+|(?<=\bBasic )\S+")
_FORMAT = "%(asctime)s %(levelname)s %(process)d %(request_id)s %(name)s: %(message)s"


class OneLineFormatter(logging.Formatter):
    """Formats a record and its traceback as one line without control characters and hides secrets.

    Args:
        secrets: texts to hide; empty texts are ignored.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__(_FORMAT)
        # Longest first, because one secret may contain another.
        self._secrets = sorted((secret for secret in secrets if secret), key=len, reverse=True)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        """Return the moment of a record in UTC."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        record.request_id = current_request_id.get() or "-"
        line = _CREDENTIALS.sub(_HIDDEN, super().format(record))
        for secret in self._secrets:
            line = line.replace(secret, _HIDDEN)
        return escape_unsafe(line)


def configure(settings: Settings, level: int = logging.INFO) -> None:
    """Log all records of this process to standard error. A second call replaces the configuration of the first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter(_list_secrets(settings)))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # These libraries log every request to an engine or a registry.
    for library in ("urllib3", "docker"):
        logging.getLogger(library).setLevel(logging.WARNING)


def _list_secrets(settings: Settings) -> list[str]:
    addresses = (settings.database_url, settings.redis_url)
    passwords = (urlsplit(address).password for address in addresses)
    own = (settings.secret_key, *settings.secret_key_fallbacks, settings.mail.password, settings.upstream.forge_token)
    candidates = [*own, *passwords]
    return [secret for secret in candidates if secret]
