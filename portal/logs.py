"""Logging, the same for every process: one line a record, with the id of the request or job, never a secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import urlsplit

from portal.services.events import current_request_id
from portal.settings import Settings

_HIDDEN = "***"
# A password in an address (`redis://:secret@host`), and what follows `Bearer` or `Basic` in a header.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+(?=@)|(?<=\bBearer )\S+|(?<=\bBasic )\S+")
_FORMAT = "%(asctime)s %(levelname)s %(process)d %(request_id)s %(name)s: %(message)s"


class OneLineFormatter(logging.Formatter):
    """Writes a record, traceback included, on one line and without the secrets it was told of.

    Args:
        secrets: texts that must never appear; empty ones are left out.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__(_FORMAT)
        # The longest first, so that no rest of one remains where another is a part of it.
        self._secrets = sorted((secret for secret in secrets if secret), key=len, reverse=True)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        """The moment in UTC, whatever the zone of the machine."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        record.request_id = current_request_id.get() or "-"
        line = _CREDENTIALS.sub(_HIDDEN, super().format(record))
        for secret in self._secrets:
            line = line.replace(secret, _HIDDEN)
        return line.replace("\r", "\\r").replace("\n", "\\n")


def configure(settings: Settings, level: int = logging.INFO) -> None:
    """Send every log record of this process to standard error. Calling it again replaces the former configuration."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter(_secrets(settings)))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # They tell of every request to an engine or a registry.
    for chatty in ("urllib3", "docker"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _secrets(settings: Settings) -> list[str]:
    addresses = (settings.database_url, settings.redis_url)
    passwords = (urlsplit(address).password for address in addresses)
    candidates = [settings.secret_key, *settings.secret_key_fallbacks, settings.mail.password, *passwords]
    return [secret for secret in candidates if secret]
