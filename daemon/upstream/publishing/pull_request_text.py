"""The text of the pull request: findings as a checklist, release notes, warnings. Used by `sync`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from daemon.upstream.changelog.internal_changelog import finding_lines
from daemon.upstream.scan.findings import ScanResult

# GitHub accepts 65,536 characters.
_BODY_LIMIT = 60_000
_FINDINGS_SHOWN = 200


def pull_request_body(user_facing: str, internal_path: str, scan: ScanResult, warnings: Sequence[str]) -> str:
    """Write the body of the pull request.

    Args:
        user_facing: The user-facing changelog as JSON.
        internal_path: Path of the internal changelog.
        scan: Result of the scan.
        warnings: What a person should check.
    """
    document = json.loads(user_facing)
    parts = [f"This brings the fork up to date with upstream. All changes are listed in `{internal_path}`."]
    if warnings:
        parts += ["### Check before merging", "\n".join(f"- [ ] {warning}" for warning in warnings)]
    parts += ["### User interface to hide in hosted mode", _findings(scan)]
    parts += ["### Release notes for customers", _notes(document["sections"])]
    parts.append("Merge with a merge commit. The image is built, detected and rolled out after that.")
    body = "\n\n".join(parts)
    return body if len(body) <= _BODY_LIMIT else f"{body[:_BODY_LIMIT]}\n\n…"


def _findings(scan: ScanResult) -> str:
    if not scan.folders:
        return "Nothing was scanned: none of the configured folders exists."
    if not scan.findings:
        return "Nothing to hide was found."
    new = finding_lines(scan.new[:_FINDINGS_SHOWN], "- [ ] **New:**")
    known = finding_lines(scan.known[: _FINDINGS_SHOWN - len(new)], "- [ ]")
    hidden = len(scan.findings) - len(new) - len(known)
    more = [f"- and {hidden} more; run `flotilla upstream scan`"] if hidden else []
    return "\n".join(new + known + more)


def _notes(sections: Sequence[dict[str, Sequence[str]]]) -> str:
    if not sections:
        return "Customers notice nothing."
    return "\n\n".join(
        f"**{section['title']}**\n\n" + "\n".join(f"- {item}" for item in section["items"]) for section in sections
    )
