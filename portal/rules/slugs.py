"""URL names (slugs) of organizations: 3 to 48 lower-case letters, digits and dashes. Used by `orgs.creation`."""

from __future__ import annotations

import re
import unicodedata
from datetime import timedelta

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{1,46}[a-z0-9]")
_MIN_LENGTH = 3
_MAX_LENGTH = 48
_RESERVED_WORDS = """
about account admin administrator api app assets audit auth billing blog bot bots cdn dashboard demo dev docs
download email example flotilla forgot ftp gateway health healthz help host internal invite invites legal
localhost login logout mail mx new node nodes operator org orgs owner platform portal privacy provider public registry
reset root security session settings signup smtp staging static status support system team terms test user
users vendor webhook webmail www your-provider
"""

KEPT_AFTER_DELETION = timedelta(days=30)
"""How long the slug of a deleted organization stays reserved, so that old links do not lead to another customer."""

RESERVED = frozenset(_RESERVED_WORDS.split())
"""Words that users could mistake for a part of the platform, in a host name or a path."""


def find_problem(slug: str) -> str | None:
    """Return why `slug` is not valid, or None for a valid slug."""
    if not _SLUG.fullmatch(slug):
        return "Use 3 to 48 lower-case letters, digits and dashes; begin and end with a letter or digit."
    if slug[2:4] == "--":
        # A host name of this form, such as xn--…, is the encoding of a name in another script (RFC 5890).
        return "Do not use dashes as both the third and the fourth character."
    if slug in RESERVED:
        return f"The URL name {slug} is reserved. Choose another one."
    return None


def suggest_slug(name: str, number: int = 1) -> str:
    """Derive a valid slug from a name.

    Args:
        name: the name of the organization.
        number: a suffix from 2 on, for names whose first slugs are taken.
    """
    ascii_name = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    base = re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")
    if len(base) < _MIN_LENGTH or base in RESERVED:
        base = f"{base or 'my'}-org"
    suffix = f"-{number}" if number > 1 else ""
    return base[: _MAX_LENGTH - len(suffix)].strip("-") + suffix
