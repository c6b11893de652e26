"""Email addresses: which ones we accept, and when two are the same."""

from __future__ import annotations

import re

MAX_LENGTH = 254

# Only ASCII. Outside of it different addresses fold to the same letters ("ß" and "ss"), and whoever has one of them
# could have links mailed that are meant for the other. Domains of any script have an ASCII spelling.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*")


def normalize(address: str) -> str:
    """The spelling under which addresses are compared: case does not matter."""
    return address.strip().lower()


def find_problem(address: str) -> str | None:
    """What is wrong with an address, as a sentence; None where mail could be sent to it."""
    if len(address) > MAX_LENGTH or not _ADDRESS.fullmatch(address):
        return "This is not an email address that mail could be sent to. It looks like name@example.com."
    return None


def mask(address: str) -> str:
    """The address as it is shown to people who have not proven that it is theirs: they know it, or learn little."""
    local, _, domain = address.partition("@")
    return f"{local[:1] if len(local) > 1 else ''}•••@{domain}"
