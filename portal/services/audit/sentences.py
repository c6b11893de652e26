"""The log of events in words that people understand: a sentence for each tag, and what changed into what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from string import Formatter
from typing import Any

from portal.models import Event, EventTag, Org

PROVIDER = "your provider"
"""What an operator is called in the log of an organization they do not belong to."""

_NOBODY = "deleted user"
_NO_ACCOUNT = "an unknown address"
_BY_STRANGERS = {EventTag.INVITE_DECLINED, EventTag.USER_SIGN_IN_FAILED}
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
_SENTENCES: dict[str, str] = {
    EventTag.ACCESS_REFUSED: "Refused: {actor} tried to {wanted}",
    EventTag.BOT_ATTACHED: "{bot} goes on in another container",
    EventTag.BOT_ATTENTION_CLEARED: "{bot} was put right by hand: {reason}",
    EventTag.BOT_CREATED: "{bot} was taken under management",
    EventTag.BOT_REMOVED: "{bot} was removed",
    EventTag.BOT_RESTARTED: "{bot} was restarted",
    EventTag.BOT_STARTED: "{bot} was started",
    EventTag.BOT_STATE_CHANGED: "{bot} is in another state",
    EventTag.BOT_STOPPED: "{bot} was stopped",
    EventTag.BOT_UPDATE_FAILED: "The update of {bot} to {version} failed: {error}",
    EventTag.BOT_UPDATED: "{bot} was updated to {version}",
    EventTag.CONFIG_CHANGED: "{settings} were changed",
    EventTag.IMAGE_LOOK_UP_FAILED: "{image} was looked up and became no release: {error}",
    EventTag.IMAGE_VANISHED: "{image} is not in its registry any more",
    EventTag.INVITE_ACCEPTED: "{person} accepted the invitation as {role}",
    EventTag.INVITE_COPIED: "The link of the invitation of {person} was copied",
    EventTag.INVITE_DECLINED: "{person} declined the invitation",
    EventTag.INVITE_EXPIRED: "The invitation of {person} expired",
    EventTag.INVITE_RESENT: "The invitation of {person} was mailed again",
    EventTag.INVITE_REVOKED: "The invitation of {person} was revoked",
    EventTag.INVITE_SENT: "{person} was invited as {role}",
    EventTag.MAIL_RESENT: "A mail ({template}) to {to} was sent again",
    EventTag.MEMBER_JOINED: "{person} joined as {role}",
    EventTag.MEMBER_LEFT: "{person} left",
    EventTag.MEMBER_REMOVED: "{person} was removed",
    EventTag.MEMBER_ROLE_CHANGED: "The role of {person} was changed",
    EventTag.NODE_ADDED: "Node {name} was added",
    EventTag.NODE_CHANGED: "Node {name} was changed",
    EventTag.NODE_OFFLINE: "Node {name} does not answer: {error}",
    EventTag.NODE_ONLINE: "Node {name} answers again",
    EventTag.NODE_REMOVED: "Node {name} was removed",
    EventTag.ORG_CREATED: "{org} was created",
    EventTag.ORG_DELETED: "{org} was deleted for good",
    EventTag.ORG_DELETION_REQUESTED: "The deletion of {org} began; it can be restored for a week",
    EventTag.ORG_RENAMED: "The organization was renamed",
    EventTag.ORG_RESTORED: "{org} was restored",
    EventTag.RELEASE_DETECTED: "Release {version} of {image} appeared",
    EventTag.RELEASE_QUARANTINED: "Release {version} was quarantined: {reason}",
    EventTag.RELEASE_QUARANTINE_LIFTED: "Release {version} may be rolled out again: {reason}",
    EventTag.ROLLOUT_ABORTED: "The rollout of {version} was aborted: {reason}",
    EventTag.ROLLOUT_COMPLETED: "The rollout of {version} was completed",
    EventTag.ROLLOUT_PAUSED: "The rollout of {version} was paused: {reason}",
    EventTag.ROLLOUT_RESUMED: "The rollout of {version} goes on",
    EventTag.ROLLOUT_STARTED: "A rollout of {version} was started",
    EventTag.ROLLOUT_SUPERSEDED: "The rollout of {version} gave way to a newer release",
    EventTag.SESSION_ENDED: "{person} was signed out of {browsers}",
    EventTag.SNAPSHOT_DELETED: "An archive of {bot} was deleted",
    EventTag.TRANSFER_ACCEPTED: "The organization was handed over",
    EventTag.TRANSFER_DECLINED: "{person} declined to become the owner",
    EventTag.TRANSFER_ENDED: "The offer to {person} to become the owner ended with the membership",
    EventTag.TRANSFER_EXPIRED: "The offer to {person} to become the owner expired",
    EventTag.TRANSFER_OFFERED: "{person} was offered to become the owner",
    EventTag.TRANSFER_WITHDRAWN: "The offer to {person} to become the owner was taken back",
    EventTag.USER_DELETED: "{person} deleted the account",
    EventTag.USER_DISABLED: "The account of {person} was disabled",
    EventTag.USER_EMAIL_CHANGED: "{person} has another address",
    EventTag.USER_ENABLED: "The account of {person} was enabled again",
    EventTag.USER_OPERATOR_CREATED: "An account was made for the operator {person}",
    EventTag.USER_OPERATOR_GRANTED: "{person} was made an operator",
    EventTag.USER_OPERATOR_REVOKED: "{person} is no operator any more",
    EventTag.USER_PASSWORD_CHANGED: "{person} set another password",
    EventTag.USER_RENAMED: "{person} has another name",
    EventTag.USER_SIGN_IN_FAILED: "Somebody failed to sign in as {person}",
    EventTag.USER_SIGNED_IN: "{person} signed in",
    EventTag.USER_SIGNED_OUT: "{person} signed out",
    EventTag.USER_SIGNED_UP: "{person} signed up",
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


def list_tags_by_subject() -> dict[str, list[str]]:
    """Every tag with a sentence, by its subject."""
    subjects: dict[str, list[str]] = {}
    for tag in _SENTENCES:
        subjects.setdefault(tag.partition(".")[0], []).append(tag)
    return subjects


def list_user_ids(event: Event) -> Iterator[str]:
    """Ids of the users an event names."""
    named = [event.actor_id, event.data.get("user_id")]
    if event.tag == EventTag.TRANSFER_ACCEPTED:
        named += [event.data.get("old"), event.data.get("new")]
    yield from (identity for identity in named if identity)


def describe(event: Event, names: Names) -> str:
    """What happened, in a sentence."""
    sentence = _SENTENCES.get(event.tag)
    if sentence is None:
        return event.tag.replace(".", " ").replace("_", " ").capitalize()
    text = _filled(sentence, _facts(event, names))
    note = event.data.get("note")
    return f"{text} ({note})" if note else text


def list_changes(event: Event, names: Names) -> list[Change]:
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
    people = names.users if event.tag == EventTag.TRANSFER_ACCEPTED else {}
    return [Change("", _plain(people.get(old, old)), _plain(people.get(new, new)))]


def describe_actor(event: Event, names: Names, *, from_inside: bool = False) -> str:
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
        "actor": describe_actor(event, names),
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
