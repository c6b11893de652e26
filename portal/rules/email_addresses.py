"""Rules for emails: which are valid, which are equal, how to mask one. Used by forms, accounts and invites."""

from __future__ import annotations

import re

MAX_LENGTH = 254

# ASCII only: different emails outside ASCII can have the same lower-case form ("ß" and "ss"), so the owner of one
# could receive links that are meant for the other. Domains in any script have an ASCII spelling.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*")


def normalize(address: str) -> str:
    """Return the form in which emails are compared: lower case, without surrounding whitespace."""
    return address.strip().lower()


def find_mailbox(address: str) -> str:
    """Return the address that mail for `address` reaches, normalized and without a tag such as "+news".

    Many mail servers deliver all tags of a name to one mailbox. Use this for limits only: other servers do not.
    """
    local, _, domain = normalize(address).partition("@")
    return f"{local.partition('+')[0] or local}@{domain}"


def find_problem(address: str) -> str | None:
    """Return an error message for an invalid email; None for a valid one."""
    if len(address) > MAX_LENGTH or not _ADDRESS.fullmatch(address):
        return "Enter a valid email, such as name@example.com."
    return None


def mask(address: str) -> str:
    """Return the email with most of its local part hidden, for readers who have not confirmed that it is theirs."""
    local, _, domain = address.partition("@")
    return f"{local[:1] if len(local) > 1 else ''}•••@{domain}"
