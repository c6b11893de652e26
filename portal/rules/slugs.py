"""The part of an address that names an organization: 3 to 48 lower-case letters, digits and dashes."""

from __future__ import annotations

import re
import unicodedata

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{1,46}[a-z0-9]")
_SHORTEST = 3
_LONGEST = 48
_WORDS = """
about account admin administrator api app assets audit auth billing blog bot bots cdn dashboard demo dev docs
download email example flotilla forgot ftp gateway health healthz help host internal invite invites legal
localhost login logout mail mx new node nodes operator org orgs owner platform portal privacy public registry
reset root security session settings signup smtp staging static status support system team terms test user
users vendor webhook webmail www
"""

RESERVED = frozenset(_WORDS.split())
"""Words that would be mistaken for a part of the platform itself, as host name or in an address."""


def find_problem(slug: str) -> str | None:
    """Say why `slug` cannot be one, or None when it can."""
    if not _SLUG.fullmatch(slug):
        return "Use 3 to 48 lower-case letters, digits and dashes; begin and end with a letter or digit."
    if slug in RESERVED:
        return f"The address {slug} is reserved; choose another."
    return None


def suggest_slug(name: str, number: int = 1) -> str:
    """The slug a name suggests; it always is a valid one.

    Args:
        name: what people call the organization.
        number: 2 and more make it another one, for when those before are taken.
    """
    plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    base = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if len(base) < _SHORTEST or base in RESERVED:
        base = f"{base or 'my'}-org"
    ending = f"-{number}" if number > 1 else ""
    return base[: _LONGEST - len(ending)].strip("-") + ending
