"""The answers to calls with an `Idempotency-Key`. Used by the provision protocol.

A key names one call: a repetition gets the first answer and changes nothing. Only successful calls are stored, in the
transaction that makes their change.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from typing import Any

from .fields import InvalidField

KEEP_SECONDS = 24 * 60 * 60
"""How long an answer is stored. Nothing repeats a call after that time."""

_VALID_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def find_answer(connection: sqlite3.Connection, key: str, call: str) -> tuple[int, dict[str, Any]] | None:
    """Return the status and content of the answer to the same call with this key, or None.

    Args:
        connection: a writing connection.
        key: the value of the header.
        call: everything that distinguishes the call from others.

    Raises:
        InvalidField: the key is malformed, or belongs to another call.
    """
    if _VALID_KEY.fullmatch(key) is None:
        raise InvalidField("Idempotency-Key", "must have 1 to 255 ASCII characters without spaces")
    connection.execute("DELETE FROM answers WHERE stored_at < ?", (int(time.time()) - KEEP_SECONDS,))
    query = "SELECT call, status, content FROM answers WHERE idempotency_key = ?"
    row = connection.execute(query, (key,)).fetchone()
    if row is None:
        return None
    if row[0] != call:
        raise InvalidField("Idempotency-Key", "was used for another call")
    return row[1], json.loads(row[2])


def store_answer(
    connection: sqlite3.Connection, key: str, call: str, status: int, content: dict[str, Any], *, company_id: str
) -> None:
    """Store the answer to a call about a company."""
    connection.execute(
        "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)",
        (key, call, status, json.dumps(content), company_id, int(time.time())),
    )


def forget_answers(connection: sqlite3.Connection, company_id: str) -> None:
    """Delete the answers about a deleted company, whose id a repeated provisioning must not return."""
    connection.execute("DELETE FROM answers WHERE company_id = ?", (company_id,))
