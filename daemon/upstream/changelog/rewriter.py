"""An external command that polishes the release notes, such as a language model. Used by `changelog_files`.

The command reads the sections as JSON on standard input and writes the same shape to standard output. Its answer
passes the same filter as our own text and a check of its shape. A command that fails changes nothing.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

from daemon.upstream.changelog.exclusions import excluded_subjects
from daemon.upstream.changelog.release_notes import SECTIONS, ReleaseNotes, collect
from daemon.upstream.scan.hosted_mode import HostedModeContext

TIMEOUT_SECONDS = 300
_OUTPUT_LIMIT = 256 * 1024
_ITEM_LIMIT = 300


class RewriterFailed(Exception):
    """The command failed or its answer has the wrong shape. The message says which."""


def rewrite(
    notes: ReleaseNotes, command: Sequence[str], context: HostedModeContext, timeout_seconds: float = TIMEOUT_SECONDS
) -> ReleaseNotes:
    """Let a command rewrite release notes.

    Args:
        notes: The notes that the rules made.
        command: Program and arguments.
        context: The fork's words, which the answer must not contain.
        timeout_seconds: How long the command may take.

    Returns:
        The command's items without those about excluded subjects.

    Raises:
        RewriterFailed: if the command fails, takes too long or answers in another shape.
    """
    question = {"sections": [{"title": title, "items": list(items)} for title, items in notes.sections]}
    try:
        done = subprocess.run(
            list(command),
            input=json.dumps(question, ensure_ascii=False).encode(),
            capture_output=True,
            check=False,
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise RewriterFailed(f"The rewriter did not answer within {timeout_seconds:g} seconds.") from error
    except OSError as error:
        raise RewriterFailed(f"The rewriter could not be started: {error.strerror}.") from error
    if done.returncode != 0:
        raise RewriterFailed(f"The rewriter ended with exit code {done.returncode}.")
    excluded = excluded_subjects(context)
    return collect([(title, item) for title, item in _parse(done.stdout) if not excluded.found_in(item)])


def _parse(raw: bytes) -> list[tuple[str, str]]:
    if len(raw) > _OUTPUT_LIMIT:
        raise RewriterFailed("The rewriter's answer is longer than 256 KB.")
    try:
        sections = json.loads(raw)["sections"]
        items = [(section["title"], item) for section in sections for item in section["items"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RewriterFailed(
            'The rewriter\'s answer is not JSON such as {"sections": [{"title", "items"}]}.'
        ) from error
    for title, item in items:
        if title not in SECTIONS:
            raise RewriterFailed(f"The rewriter's answer has a section that is not one of {', '.join(SECTIONS)}.")
        if not isinstance(item, str) or not item.strip() or not item.isprintable() or len(item) > _ITEM_LIMIT:
            raise RewriterFailed("The rewriter's answer has an item that is not one line of text.")
    return [(title, " ".join(item.split())) for title, item in items]
