"""The email to operators about a sync of the bot's fork: conflict, refusal, new findings. Used by `composers`."""

from __future__ import annotations

from daemon.mail.emails import Composer, Email, EmailContext, Obsolete
from portal.models import ForkSync, ForkSyncState
from portal.services import fork_syncs

_SUBJECTS = {
    ForkSyncState.CONFLICT: "The bot's fork conflicts with upstream",
    ForkSyncState.REFUSED: "The bot's fork was not synced with upstream",
}
_FILES_SHOWN = 20


def _compose_fork_sync(context: EmailContext) -> Email:
    sync = context.row(ForkSync, "sync_id")
    if fork_syncs.describe_problem(sync) is None:
        raise Obsolete("The sync found nothing that needs an operator.")
    report = sync.report
    conflict = report.get("conflict")
    findings = report["scan"]["new"] if report else []
    pull_request = report.get("pull_request")
    files = conflict["files"] if conflict else findings
    shown = list(dict.fromkeys(file["path"] for file in files))[:_FILES_SHOWN]
    names = {
        "error": sync.error or "",
        "commit": f"{conflict['commit']['subject']} ({conflict['commit']['author']})" if conflict else "",
        "files": ", ".join(shown),
    }
    facts = {
        "state": str(sync.state),
        "finding_count": len(findings),
        "pull_request": pull_request["url"] if pull_request else None,
        "link": context.link("/admin/upstream"),
    }
    subject = _SUBJECTS.get(sync.state, "The bot's fork has user interface to hide")
    return Email("fork_sync", subject, names, facts)


COMPOSERS: dict[str, Composer] = {"fork_sync": _compose_fork_sync}
"""The composer by template. The context of the outbox row holds `sync_id`."""
