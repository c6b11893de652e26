"""Mails about organizations: invites, removal, ownership, deletion."""

from __future__ import annotations

from daemon.mail.emails import Composer, Desk, Letter, NoReason
from portal.models import Invite, InviteState, InviteToken, Org, OrgState, User
from portal.tokens import derived_token, fingerprint


def _invite(desk: Desk) -> Letter:
    token = _token(desk)
    org, inviter = token.invite.org.name, token.invite.inviter.name
    return Letter("invite", f"{inviter} invites you to {org}", _names(token), _facts(desk, token))


def _invite_proof(desk: Desk) -> Letter:
    token = _token(desk)
    subject = f"Confirm your address to join {token.invite.org.name}"
    return Letter("invite_proof", subject, _names(token), _facts(desk, token))


def _member_removed(desk: Desk) -> Letter:
    org = desk.row(Org, "org_id")
    person = desk.row(User, "user_id")
    return Letter("member_removed", f"You are no longer in {org.name}", {"name": person.name, "org": org.name})


def _ownership_offered(desk: Desk) -> Letter:
    org = desk.row(Org, "org_id")
    person = desk.row(User, "user_id")
    if org.transfer_to != person.id or org.transfer_expires_at is None or org.transfer_expires_at <= desk.now:
        raise NoReason("The offer of ownership ended before the mail could be sent.")
    names = {"name": person.name, "org": org.name, "owner": org.owner.name}
    facts = {"until": org.transfer_expires_at, "link": desk.link(f"/o/{org.slug}/")}
    return Letter("ownership_offered", f"{org.owner.name} offers you {org.name}", names, facts)


def _org_deletion(desk: Desk) -> Letter:
    org = desk.row(Org, "org_id")
    person = desk.row(User, "user_id")
    if org.state is not OrgState.DELETING or org.delete_after is None:
        raise NoReason("The organization was restored, or deleted, before the mail could be sent.")
    owner = org.owner_id == person.id
    facts = {"until": org.delete_after, "link": desk.link(f"/o/{org.slug}/") if owner else None}
    return Letter("org_deletion", f"{org.name} is going to be deleted", {"name": person.name, "org": org.name}, facts)


COMPOSERS: dict[str, Composer] = {
    "invite": _invite,
    "invite_proof": _invite_proof,
    "member_removed": _member_removed,
    "ownership_offered": _ownership_offered,
    "org_deletion": _org_deletion,
}
"""Context: `invite_token_id` for the invites; `org_id` and the recipient's `user_id` for the others."""


def _token(desk: Desk) -> InviteToken:
    token = desk.row(InviteToken, "invite_token_id")
    _require_open(desk, token.invite)
    if token.replaced_at is not None:
        raise NoReason("A newer mail of this invite replaced this one.")
    return token


def _require_open(desk: Desk, invite: Invite) -> None:
    if invite.state is not InviteState.PENDING:
        raise NoReason(f"The invite was {invite.state} before the mail could be sent.")
    if invite.expires_at <= desk.now:
        raise NoReason("The invite expired before the mail could be sent.")
    if invite.org.state is not OrgState.ACTIVE:
        raise NoReason("The organization is being deleted.")


def _names(token: InviteToken) -> dict[str, str]:
    return {"org": token.invite.org.name, "inviter": token.invite.inviter.name}


def _facts(desk: Desk, token: InviteToken) -> dict[str, object]:
    secret = derived_token(desk.settings.secret_key, "invite", token.id, token.generation)
    token.token_hash = fingerprint(secret)
    return {"role": token.invite.role, "until": token.invite.expires_at, "link": desk.link(f"/invite/{secret}")}
