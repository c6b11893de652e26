"""Mails about organizations: invites, removal, ownership, deletion."""

from __future__ import annotations

from daemon.mail.emails import Composer, Email, EmailContext, Obsolete
from portal.models import Invite, InviteState, InviteToken, Org, OrgState, User
from portal.tokens import derived_token, fingerprint


def _invite(context: EmailContext) -> Email:
    token = _token(context)
    org, inviter = token.invite.org.name, token.invite.inviter.name
    return Email("invite", f"{inviter} invites you to {org}", _names(token), _facts(context, token))


def _invite_proof(context: EmailContext) -> Email:
    token = _token(context)
    subject = f"Confirm your address to join {token.invite.org.name}"
    return Email("invite_proof", subject, _names(token), _facts(context, token))


def _member_removed(context: EmailContext) -> Email:
    org = context.row(Org, "org_id")
    person = context.row(User, "user_id")
    return Email("member_removed", f"You are no longer in {org.name}", {"name": person.name, "org": org.name})


def _ownership_offered(context: EmailContext) -> Email:
    org = context.row(Org, "org_id")
    person = context.row(User, "user_id")
    if org.transfer_to != person.id or org.transfer_expires_at is None or org.transfer_expires_at <= context.now:
        raise Obsolete("The offer of ownership ended before the mail could be sent.")
    names = {"name": person.name, "org": org.name, "owner": org.owner.name}
    facts = {"until": org.transfer_expires_at, "link": context.link(f"/o/{org.slug}/")}
    return Email("ownership_offered", f"{org.owner.name} offers you {org.name}", names, facts)


def _org_deletion(context: EmailContext) -> Email:
    org = context.row(Org, "org_id")
    person = context.row(User, "user_id")
    if org.state is not OrgState.DELETING or org.delete_after is None:
        raise Obsolete("The organization was restored, or deleted, before the mail could be sent.")
    owner = org.owner_id == person.id
    facts = {"until": org.delete_after, "link": context.link(f"/o/{org.slug}/") if owner else None}
    return Email("org_deletion", f"{org.name} is going to be deleted", {"name": person.name, "org": org.name}, facts)


COMPOSERS: dict[str, Composer] = {
    "invite": _invite,
    "invite_proof": _invite_proof,
    "member_removed": _member_removed,
    "ownership_offered": _ownership_offered,
    "org_deletion": _org_deletion,
}
"""Context: `invite_token_id` for the invites; `org_id` and the recipient's `user_id` for the others."""


def _token(context: EmailContext) -> InviteToken:
    token = context.row(InviteToken, "invite_token_id")
    _require_open(context, token.invite)
    if token.replaced_at is not None:
        raise Obsolete("A newer mail of this invite replaced this one.")
    return token


def _require_open(context: EmailContext, invite: Invite) -> None:
    if invite.state is not InviteState.PENDING:
        raise Obsolete(f"The invite was {invite.state} before the mail could be sent.")
    if invite.expires_at <= context.now:
        raise Obsolete("The invite expired before the mail could be sent.")
    if invite.org.state is not OrgState.ACTIVE:
        raise Obsolete("The organization is being deleted.")


def _names(token: InviteToken) -> dict[str, str]:
    return {"org": token.invite.org.name, "inviter": token.invite.inviter.name}


def _facts(context: EmailContext, token: InviteToken) -> dict[str, object]:
    secret = derived_token(context.settings.secret_key, "invite", token.id, token.generation)
    token.token_hash = fingerprint(secret)
    return {"role": token.invite.role, "until": token.invite.expires_at, "link": context.link(f"/invite/{secret}")}
