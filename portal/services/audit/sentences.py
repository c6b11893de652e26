"""The log of events in words that people understand: a sentence for each tag, and what changed into what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from string import Formatter
from typing import Any

from portal.models import Event, Org

PROVIDER = "your provider"
"""What an operator is called in the log of an organization they do not belong to."""

_NOBODY = "deleted user"
_NO_ACCOUNT = "an unknown address"
_BY_STRANGERS = {"invite.declined", "user.sign_in_failed"}
"""What people do who are not signed in."""
_WANTED = {
    "read": "look at this organization",
    "open_bot": "open a bot",
    "operate_bots": "start or stop a bot",
    "update_now": "update a bot",
    "set_update_preferences": "change how updates happen",
    "override_update_preferences": "decide about updates in the organization's place",
    "set_org": "change the organization's settings",
    "read_audit": "read the audit log",
    "manage_team": "manage the team",
    "transfer_ownership": "hand the organization over",
    "delete_org": "delete or restore the organization",
    "operate": "use a page of the operators",
}
_SENTENCES = {
    "access.refused": "Refused: {actor} tried to {wanted}",
    "bot.attached": "{bot} goes on in another container",
    "bot.attention_cleared": "{bot} was put right by hand: {reason}",
    "bot.created": "{bot} was taken under management",
    "bot.removed": "{bot} was removed",
    "bot.restarted": "{bot} was restarted",
    "bot.started": "{bot} was started",
    "bot.state_changed": "{bot} is in another state",
    "bot.stopped": "{bot} was stopped",
    "bot.update_failed": "The update of {bot} to {version} failed: {error}",
    "bot.updated": "{bot} was updated to {version}",
    "config.changed": "{settings} were changed",
    "image.look_up_failed": "{image} was looked up and became no release: {error}",
    "image.vanished": "{image} is not in its registry any more",
    "invite.accepted": "{person} accepted the invitation as {role}",
    "invite.copied": "The link of the invitation of {person} was copied",
    "invite.declined": "{person} declined the invitation",
    "invite.expired": "The invitation of {person} expired",
    "invite.resent": "The invitation of {person} was mailed again",
    "invite.revoked": "The invitation of {person} was revoked",
    "invite.sent": "{person} was invited as {role}",
    "mail.resent": "A mail ({template}) to {to} was sent again",
    "member.joined": "{person} joined as {role}",
    "member.left": "{person} left",
    "member.removed": "{person} was removed",
    "member.role_changed": "The role of {person} was changed",
    "node.added": "Node {name} was added",
    "node.changed": "Node {name} was changed",
    "node.offline": "Node {name} does not answer: {error}",
    "node.online": "Node {name} answers again",
    "node.removed": "Node {name} was removed",
    "org.created": "{org} was created",
    "org.deleted": "{org} was deleted for good",
    "org.deletion_requested": "The deletion of {org} began; it can be restored for a week",
    "org.renamed": "The organization was renamed",
    "org.restored": "{org} was restored",
    "release.detected": "Release {version} of {image} appeared",
    "release.quarantined": "Release {version} was quarantined: {reason}",
    "release.released": "Release {version} may be rolled out again: {reason}",
    "rollout.aborted": "The rollout of {version} was aborted: {reason}",
    "rollout.completed": "The rollout of {version} was completed",
    "rollout.paused": "The rollout of {version} was paused: {reason}",
    "rollout.resumed": "The rollout of {version} goes on",
    "rollout.started": "A rollout of {version} was started",
    "rollout.superseded": "The rollout of {version} gave way to a newer release",
    "session.ended": "{person} was signed out of {browsers}",
    "snapshot.deleted": "An archive of {bot} was deleted",
    "transfer.accepted": "The organization was handed over",
    "transfer.declined": "{person} declined to become the owner",
    "transfer.ended": "The offer to {person} to become the owner ended with the membership",
    "transfer.expired": "The offer to {person} to become the owner expired",
    "transfer.offered": "{person} was offered to become the owner",
    "transfer.withdrawn": "The offer to {person} to become the owner was taken back",
    "user.deleted": "{person} deleted the account",
    "user.disabled": "The account of {person} was disabled",
    "user.email_changed": "{person} has another address",
    "user.enabled": "The account of {person} was enabled again",
    "user.operator_created": "An account was made for the operator {person}",
    "user.operator_granted": "{person} was made an operator",
    "user.operator_revoked": "{person} is no operator any more",
    "user.password_changed": "{person} set another password",
    "user.renamed": "{person} has another name",
    "user.sign_in_failed": "Somebody failed to sign in as {person}",
    "user.signed_in": "{person} signed in",
    "user.signed_out": "{person} signed out",
    "user.signed_up": "{person} signed up",
}
"""A sentence for each tag. A fact that an event lacks leaves nothing behind, not even what led to it."""

_SETTING_NAMES = {
    "hour_utc": "hour (UTC)",
    "max_parallel": "side by side on a node",
    "overridden_by_operator": "decided by operators",
    "tenant_hour_utc": "hour of organizations that chose none (UTC)",
    "tenant_mode": "mode of organizations that chose none",
}
_SETTINGS = {"fleet": "Settings of the fleet", "updates": "Update preferences"}


@dataclass(frozen=True)
class Names:
    """What the rows are called that events point at, by id; those of rows that are gone are missing."""

    users: dict[str, str]
    bots: dict[str, str]
    orgs: dict[str, Org]


@dataclass(frozen=True)
class Change:
    """What something was before and is after."""

    name: str
    """Which of several; empty where the sentence says it."""
    old: str
    new: str


def tags_by_subject() -> dict[str, list[str]]:
    """Every tag with a sentence, by its subject."""
    subjects: dict[str, list[str]] = {}
    for tag in _SENTENCES:
        subjects.setdefault(tag.partition(".")[0], []).append(tag)
    return subjects


def people_of(event: Event) -> Iterator[str]:
    """Ids of the users an event names."""
    named = [event.actor_id, event.data.get("user_id")]
    if event.tag == "transfer.accepted":
        named += [event.data.get("old"), event.data.get("new")]
    yield from (identity for identity in named if identity)


def words(event: Event, names: Names) -> str:
    """What happened, in a sentence."""
    sentence = _SENTENCES.get(event.tag)
    if sentence is None:
        return event.tag.replace(".", " ").replace("_", " ").capitalize()
    text = _filled(sentence, _facts(event, names))
    note = event.data.get("note")
    return f"{text} ({note})" if note else text


def changes(event: Event, names: Names) -> list[Change]:
    """What it was before and is after."""
    old, new = event.data.get("old"), event.data.get("new")
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            change
            for name in new
            for change in _differences(name, old.get(name), new[name])
            if change.old != change.new
        ]
    if old is None or new is None:
        return []
    people = names.users if event.tag == "transfer.accepted" else {}
    return [Change("", _plain(people.get(old, old)), _plain(people.get(new, new)))]


def actor(event: Event, names: Names, *, from_inside: bool = False) -> str:
    """Who did it.

    Args:
        event: the event.
        names: of the rows it points at.
        from_inside: for the people of an organization, to whom an operator at the command line is their provider.
    """
    # First, for what is done there in somebody's name is an operator's deed all the same.
    if "via" in event.data:
        return PROVIDER if from_inside else f"an operator, by {event.data['via']}"
    if event.actor_id is not None:
        return names.users.get(event.actor_id, _NOBODY)
    return "somebody" if event.tag in _BY_STRANGERS else "Flotilla"


def _facts(event: Event, names: Names) -> dict[str, str]:
    data = event.data
    facts = {name: _plain(value) for name, value in data.items() if value is not None}
    user_id = data.get("user_id") or (None if "email" in data else event.actor_id)
    nobody = _NOBODY if user_id else _NO_ACCOUNT
    org = names.orgs.get(event.org_id or "")
    return facts | {
        # The name of today, or the address of then where there never was an account.
        "person": names.users.get(user_id or "") or data.get("email") or nobody,
        "actor": actor(event, names),
        "bot": names.bots.get(event.bot_id or "") or data.get("bot") or data.get("name") or "a bot that is gone",
        "org": org.name if org else data.get("name", "the organization"),
        "settings": _SETTINGS.get(data.get("of", ""), "Settings"),
        "browsers": "1 browser" if data.get("sessions") == 1 else f"{data.get('sessions', 0)} browsers",
        "wanted": _WANTED.get(data.get("wanted", ""), "do something"),
    }


def _filled(sentence: str, facts: dict[str, str]) -> str:
    text = ""
    for literal, name, _format, _conversion in Formatter().parse(sentence):
        if name is None:
            text += literal
        elif name in facts:
            text += literal + facts[name]
        else:
            break
    return text


def _differences(name: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for inner in sorted(old.keys() | new.keys()):
            yield from _differences(inner, old.get(inner), new.get(inner))
    else:
        # Settings are named and chosen by identifiers.
        label = _SETTING_NAMES.get(name, name)
        yield Change(*(text.replace("_", " ") for text in (label, _plain(old), _plain(new))))


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "unset"
        case _:
            return str(value)
