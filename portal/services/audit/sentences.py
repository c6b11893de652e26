"""Sentences for events: one per tag, with names and old and new values filled in. Used by `audit.log`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from string import Formatter
from typing import Any

from portal.models import Event, EventTag, Org
from portal.policy import Action
from portal.rules import faults
from portal.rules.roles import ROLES

PROVIDER = "your provider"
"""The name of an operator in the log of an organization that the operator does not belong to."""

_DELETED_USER = "deleted user"
_UNKNOWN_ADDRESS = "an unknown address"
_UNKNOWN_MEMBER = "a person whom only the bot knew"
_TAGS_WITHOUT_ACCOUNT = {EventTag.INVITE_DECLINED, EventTag.USER_SIGN_IN_FAILED}
"""Tags of events that visitors without an account can cause."""
_ATTEMPTS: dict[str, str] = {
    Action.READ: "open this organization",
    Action.READ_LOGS: "read the log of a bot",
    Action.OPEN_BOT: "open a bot",
    Action.OPERATE_BOTS: "start, stop or remove a bot",
    Action.UPDATE_NOW: "update a bot",
    Action.SET_UPDATE_PREFERENCES: "change the update settings",
    Action.OVERRIDE_UPDATE_PREFERENCES: "manage the updates for the organization",
    Action.SET_ORG: "change the organization's settings",
    Action.READ_AUDIT: "read the audit log",
    Action.MANAGE_TEAM: "manage the team",
    Action.SEE_BILLING: "open the billing page",
    Action.TRANSFER_OWNERSHIP: "transfer the ownership",
    Action.DELETE_ORG: "delete or restore the organization",
    Action.LEAVE: "leave the organization",
    "operate": "open a page of the operators",
}
"""What a refused user tried to do, by the right that it requires."""
_SENTENCES: dict[str, str] = {
    EventTag.ACCESS_REFUSED: "Refused: {actor} tried to {attempt}",
    EventTag.ALERT_CHANNEL_ADDED: "The alert channel {name} was added",
    EventTag.ALERT_CHANNEL_CHANGED: "The alert channel {name} was changed",
    EventTag.ALERT_CHANNEL_DELETED: "The alert channel {name} was deleted",
    EventTag.ALERT_CHANNEL_PAUSED: "The alert channel {name} was paused: {reason}",
    EventTag.ALERT_CHANNEL_RESUMED: "The alert channel {name} was resumed",
    EventTag.BACKUP_RESTORED: "A backup was restored; all sessions, links, invites and offers of ownership ended",
    EventTag.BOT_ATTACHED: "{bot} now runs in another container",
    EventTag.BOT_ATTENTION_CLEARED: "{bot} was marked as fixed: {reason}",
    EventTag.BOT_BUDGET_CHANGED: "The budget of {bot} was changed",
    EventTag.BOT_CHANNEL_CHANGED: "The release channel of {bot} was changed",
    EventTag.BOT_CONNECTED: "{bot} was connected, and gets its members from Flotilla",
    EventTag.BOT_CREATED: "{bot} was added",
    EventTag.BOT_CREATION_FAILED: "The setup of {bot} takes longer than usual",
    EventTag.BOT_CREATION_RETRIED: "The setup of {bot} was started again",
    EventTag.BOT_HOLD_ENDED: "Updates of {bot} are no longer on hold",
    EventTag.BOT_LABELS_CHANGED: "The labels of {bot} were changed",
    EventTag.BOT_OPENED: "{bot} was opened",
    EventTag.BOT_PROVISIONED: "The organization was set up in {bot}",
    EventTag.BOT_READY: "{bot} is ready",
    EventTag.BOT_RECOVERED: "{bot} was recovered: its rollback is complete",
    EventTag.BOT_RECOVERY_REQUESTED: "The rollback of {bot} is being continued",
    EventTag.BOT_RELEASE_SKIPPED: "Version {version} was skipped for {bot}",
    EventTag.BOT_REMOVAL_REQUESTED: "The removal of {bot} was requested",
    EventTag.BOT_REMOVED: "{bot} was removed",
    EventTag.BOT_RESTARTED: "{bot} was restarted",
    EventTag.BOT_RESTART_REQUESTED: "A restart of {bot} was requested",
    EventTag.BOT_RESTORED: "{bot} was restored",
    EventTag.BOT_SECRET_ROTATED: "{bot} accepted its next secret, which is its current one now",
    EventTag.BOT_SECRET_ROTATION_BEGUN: "The rotation of the secret of {bot} was begun",
    EventTag.BOT_SKIP_ENDED: "Version {version} is no longer skipped for {bot}",
    EventTag.BOT_STARTED: "{bot} was started",
    EventTag.BOT_START_FAILED: "{bot} could not be started: {error}",
    EventTag.BOT_START_REQUESTED: "The start of {bot} was requested",
    EventTag.BOT_STATE_CHANGED: "The state of {bot} changed",
    EventTag.BOT_STOPPED: "{bot} was stopped",
    EventTag.BOT_STOP_REQUESTED: "A stop of {bot} was requested",
    EventTag.BOT_UPDATE_FAILED: "The update of {bot} to {version} failed: {error}",
    EventTag.BOT_UPDATES_HELD: "Updates of {bot} are on hold until {until}: {reason}",
    EventTag.BOT_UPDATED: "{bot} was updated to {version}",
    EventTag.CONFIG_CHANGED: "{settings} were changed",
    EventTag.FORK_CONFLICT: "The fork's commit {commit} conflicts with upstream in {files}",
    EventTag.FORK_SYNCED: "The fork was synced with upstream: changelog {version}, pull request {pull_request}",
    EventTag.FORK_SYNC_REFUSED: "The sync of the fork with upstream was refused: {error}",
    EventTag.IMAGE_LOOK_UP_FAILED: "{image} was looked up, but could not be added as a release: {error}",
    EventTag.IMAGE_VANISHED: "{image} is no longer in its registry",
    EventTag.INVITE_ACCEPTED: "{person} accepted the invite as {role}",
    EventTag.INVITE_COPIED: "A link to the invite for {person} was copied",
    EventTag.INVITE_DECLINED: "{person} declined the invite",
    EventTag.INVITE_EXPIRED: "The invite for {person} expired",
    EventTag.INVITE_RESENT: "The invite for {person} was sent again",
    EventTag.INVITE_REVOKED: "The invite for {person} was revoked",
    EventTag.INVITE_SENT: "{person} was invited as {role}",
    EventTag.MAIL_DISMISSED: "The failure of an email ({template}) to {person} was dismissed",
    EventTag.MAIL_FAILED: "An email ({template}) to {person} could not be delivered",
    EventTag.MAIL_RESENT: "An email ({template}) to {person} was sent again",
    EventTag.MEMBER_JOINED: "{person} joined as {role}",
    EventTag.MEMBER_LEFT: "{person} left",
    EventTag.MEMBER_REMOVED: "{person} was removed",
    EventTag.MEMBER_ROLE_CHANGED: "The role of {person} was changed",
    EventTag.NODE_ADDED: "Node {name} was added",
    EventTag.NODE_CHANGED: "Node {name} was changed",
    EventTag.NODE_OFFLINE: "Node {name} is offline: {error}",
    EventTag.NODE_ONLINE: "Node {name} is online again",
    EventTag.NODE_REMOVED: "Node {name} was removed",
    EventTag.ORG_CREATED: "{org} was created",
    EventTag.ORG_DELETED: "{org} was permanently deleted",
    EventTag.ORG_DELETION_REQUESTED: "{org} is being deleted; it can be restored for seven days",
    EventTag.ORG_RENAMED: "The organization was renamed",
    EventTag.ORG_RESTORED: "{org} was restored",
    EventTag.RELEASE_DETECTED: "Release {version} of {image} was detected",
    EventTag.RELEASE_QUARANTINED: "Release {version} was quarantined: {reason}",
    EventTag.RELEASE_QUARANTINE_LIFTED: "The quarantine of release {version} was lifted: {reason}",
    EventTag.ROLLOUT_ABORTED: "The rollout of {version} was aborted: {reason}",
    EventTag.ROLLOUT_COMPLETED: "The rollout of {version} was completed",
    EventTag.ROLLOUT_HASTENED: "The rollout of {version} continued without waiting for {skipped}",
    EventTag.ROLLOUT_PAUSED: "The rollout of {version} was paused: {reason}",
    EventTag.ROLLOUT_RESUMED: "The rollout of {version} was resumed",
    EventTag.ROLLOUT_STARTED: "A rollout of {version} was started",
    EventTag.ROLLOUT_SUPERSEDED: "The rollout of {version} was replaced by a newer release",
    EventTag.SESSION_ENDED: "{person} was signed out of {browsers}",
    EventTag.SNAPSHOT_DELETED: "A snapshot of {bot} was deleted",
    EventTag.SYNC_BLOCKED: "{bot} refuses members: {error}",
    EventTag.SYNC_DRIFT_REPAIRED: "The access of {person} in {bot} differed and is being repaired",
    EventTag.SYNC_REMOVALS_ALLOWED: "The removal of {unknown} unknown members from {bot} was allowed",
    EventTag.SYNC_REMOVALS_REFUSED: "{bot} has {unknown} unknown members, too many to remove automatically",
    EventTag.SYNC_REQUESTED: "All members are sent to {bot} again",
    EventTag.TRANSFER_ACCEPTED: "The ownership was transferred",
    EventTag.TRANSFER_DECLINED: "{person} declined the ownership",
    EventTag.TRANSFER_ENDED: "The offer of ownership to {person} ended with the membership",
    EventTag.TRANSFER_EXPIRED: "The offer of ownership to {person} expired",
    EventTag.TRANSFER_OFFERED: "{person} was offered the ownership",
    EventTag.TRANSFER_WITHDRAWN: "The offer of ownership to {person} was withdrawn",
    EventTag.USER_DELETED: "{person} deleted the account",
    EventTag.USER_DISABLED: "The account of {person} was disabled",
    EventTag.USER_EMAIL_CHANGED: "The email of {person} was changed",
    EventTag.USER_ENABLED: "The account of {person} was enabled",
    EventTag.USER_OPERATOR_CREATED: "An operator account was created for {person}",
    EventTag.USER_OPERATOR_GRANTED: "{person} became an operator",
    EventTag.USER_OPERATOR_REVOKED: "{person} is no longer an operator",
    EventTag.USER_PASSWORD_CHANGED: "The password of {person} was changed",
    EventTag.USER_RENAMED: "The name of {person} was changed",
    EventTag.USER_SIGN_IN_FAILED: "A sign-in as {person} failed",
    EventTag.USER_SIGNED_IN: "{person} signed in",
    EventTag.USER_SIGNED_OUT: "{person} signed out",
    EventTag.USER_SIGNED_UP: "{person} signed up",
    EventTag.VIEW_DELETED: "The saved view {name} was deleted",
    EventTag.VIEW_SAVED: "The view {name} of the fleet was saved",
}
"""A sentence for each tag. It ends before the first placeholder that the reader gets no value for, and its colon."""

_FACTS_FOR_MEMBERS = frozenset({"role", "unknown", "until", "version"})
"""Facts that the sentences for an organization may contain. Errors and reasons are for operators."""

_SETTING_NAMES = {
    "cpu_millis": "CPU limit (thousandths of a CPU)",
    "create_for_new_orgs": "every new organization gets a bot",
    "hour_utc": "hour (UTC)",
    "members_read_logs": "members read logs",
    "memory_mb": "memory limit (MB)",
    "max_parallel": "parallel updates per node",
    "secret_variables": "variables with secrets",
    "overridden_by_operator": "managed by operators",
    "tenant_hour_utc": "default hour for organizations (UTC)",
    "tenant_mode": "default mode for organizations",
}
_SETTINGS = {"bot_template": "Settings of new bots", "fleet": "Fleet settings", "updates": "Update settings"}


@dataclass(frozen=True)
class Names:
    """Names of the rows that events refer to, by id. Deleted rows have none."""

    users: dict[str, str]
    bots: dict[str, str]
    orgs: dict[str, Org]


@dataclass(frozen=True)
class Change:
    """The old and the new value of a setting or field.

    Attributes:
        name: the setting; empty where the sentence names it.
        old: the old value.
        new: the new value.
    """

    name: str
    old: str
    new: str


def list_tags_by_subject() -> dict[str, list[str]]:
    """List every tag that has a sentence, by its subject."""
    subjects: dict[str, list[str]] = {}
    for tag in _SENTENCES:
        subjects.setdefault(tag.partition(".")[0], []).append(tag)
    return subjects


def list_user_ids(event: Event) -> Iterator[str]:
    """List the ids of the users that an event names."""
    named = [event.actor_id, event.data.get("user_id")]
    if event.tag == EventTag.TRANSFER_ACCEPTED:
        named += [event.data.get("old"), event.data.get("new")]
    yield from (user_id for user_id in named if user_id)


def describe(event: Event, names: Names, *, for_members: bool = False) -> str:
    """Return a sentence that says what happened.

    Args:
        event: the event.
        names: the names of the rows that the event refers to.
        for_members: whether the reader belongs to the organization. Such a reader sees no details of faults.
    """
    sentence = _SENTENCES.get(event.tag)
    if sentence is None:
        return event.tag.replace(".", " ").replace("_", " ").capitalize()
    text = _fill(sentence, _collect_values(event, names, _list_facts(event, for_members=for_members)))
    note = event.data.get("note")
    return f"{text} ({note})" if note else text


def list_changes(event: Event, names: Names) -> list[Change]:
    """List the old and new values of an event."""
    facts = event.facts
    old, new = facts.get("old"), facts.get("new")
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            change for name in new for change in _compare(name, old.get(name), new[name]) if change.old != change.new
        ]
    if old is None or new is None:
        return []
    if event.tag == EventTag.TRANSFER_ACCEPTED:
        return [Change("", names.users.get(old, old), names.users.get(new, new))]
    if event.tag == EventTag.MEMBER_ROLE_CHANGED:
        return [Change("", *(ROLES[role].label if role in ROLES else role for role in (old, new)))]
    return [Change("", _format(old), _format(new))]


def describe_actor(event: Event, names: Names, *, for_members: bool = False) -> str:
    """Return the name of the actor.

    Args:
        event: the event.
        names: the names of the rows that the event refers to.
        for_members: whether the reader belongs to the organization and sees command line operators as its provider.
    """
    # The command line comes first: an operator acts there even where the event names another user as its actor.
    if "via" in event.data:
        return PROVIDER if for_members else f"an operator, by {event.data['via']}"
    if event.actor_id is not None:
        return names.users.get(event.actor_id, _DELETED_USER)
    return "a visitor" if event.tag in _TAGS_WITHOUT_ACCOUNT else "Flotilla"


def _list_facts(event: Event, *, for_members: bool) -> dict[str, Any]:
    """Return the facts that may fill the placeholders of a sentence."""
    if not for_members:
        return event.facts
    facts = {name: value for name, value in event.facts.items() if name in _FACTS_FOR_MEMBERS}
    if event.tag == EventTag.BOT_UPDATE_FAILED:
        transient = bool(event.facts.get("transient"))
        facts["error"] = faults.explain_failed_update(event.facts.get("outcome", ""), transient=transient) or None
    return facts


def _collect_values(event: Event, names: Names, facts: dict[str, Any]) -> dict[str, str]:
    """Collect the values of the placeholders of a sentence."""
    data = event.facts
    values = {name: _format(value) for name, value in facts.items() if value is not None}
    if data.get("role") in ROLES:
        values["role"] = ROLES[data["role"]].noun
    if "digest" in data and not data.get("version"):
        values["version"] = str(data["digest"]).removeprefix("sha256:")[:12]  # as `Release.version`
    # Events about invites and mails concern the recipient, who may have no account.
    has_recipient = "email" in data or "invite_id" in data or "mail" in data
    user_id = data.get("user_id") or (None if has_recipient else event.actor_id)
    unnamed = _DELETED_USER if user_id or has_recipient else _UNKNOWN_ADDRESS
    if event.tag == EventTag.SYNC_DRIFT_REPAIRED and not user_id:
        unnamed = _UNKNOWN_MEMBER
    org = names.orgs.get(event.org_id or "")
    return values | {
        # The current name, or the email address of that time where the person never had an account.
        "person": names.users.get(user_id or "") or data.get("email") or unnamed,
        "actor": describe_actor(event, names),
        "bot": names.bots.get(event.bot_id or "") or data.get("bot") or data.get("name") or "a deleted bot",
        "org": org.name if org else data.get("name", "the organization"),
        "settings": _SETTINGS.get(data.get("of", ""), "Settings"),
        "browsers": "1 browser" if data.get("sessions") == 1 else f"{data.get('sessions', 0)} browsers",
        "attempt": _ATTEMPTS.get(data.get("wanted", ""), "do something else"),
    }


def _fill(sentence: str, values: dict[str, str]) -> str:
    text = ""
    for literal, name, _format_spec, _conversion in Formatter().parse(sentence):
        if name is None:
            text += literal
        elif name in values:
            text += literal + values[name]
        else:
            return text + (literal.removesuffix(": ") if literal.endswith(": ") else "")
    return text


def _compare(name: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for inner in sorted(old.keys() | new.keys()):
            yield from _compare(inner, old.get(inner), new.get(inner))
    else:
        # Names and values of settings are identifiers such as `rolling_wave`.
        label = _SETTING_NAMES.get(name, name)
        yield Change(*(text.replace("_", " ") for text in (label, _format(old), _format(new))))


def _format(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "unset"
        case _:
            return str(value)
