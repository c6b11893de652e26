"""Labels of bots: how they are written. Used by the service of labels and by forms."""

from __future__ import annotations

import re

MAX_LENGTH = 40
MAX_PER_BOT = 20

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9._:=-]*[a-z0-9])?")


class LabelError(ValueError):
    """The text is not a label. The message says what to enter."""


def parse_label(text: str) -> str:
    """Return a label in lower case, such as `region=eu` or `pilot`.

    Raises:
        LabelError: the text is empty, too long, or contains other characters.
    """
    label = text.strip().lower()
    if not _LABEL.fullmatch(label):
        raise LabelError("Use letters, digits and . _ : = - in a label, such as pilot or region=eu.")
    if len(label) > MAX_LENGTH:
        raise LabelError(f"Use at most {MAX_LENGTH} characters in a label.")
    return label
