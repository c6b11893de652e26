"""Emails about organizations: invites, removal, offers of ownership, deletion. Used by the composers.

The subject of an invite contains nothing that a customer typed. Its recipient may be any stranger, and a subject of
the sender's choice would make the portal a relay for spam.
"""

from __future__ import annotations

from daemon.mail.emails import Composer, Email, EmailContext, Obsolete
from portal.models import Invite, InviteState, InviteToken, Org, OrgState, User
from portal.rules.roles import ROLES
from portal.tokens import derive_token, fingerprint


def _compose_invite(context: EmailContext) -> Email:
    token = _load_valid_token(context)
    subject = f"You have been invited to an organization on {context.settings.product_name}"
    return Email("invite", subject, _collect_names(token), _create_link_facts(context, token))


def _compose_invite_reminder(context: EmailContext) -> Email:
    token = _load_valid_token(context)
    subject = f"Your invitation to an organization on {context.settings.product_name} expires soon"
    return Email("invite_reminder", subject, _collect_names(token), _create_link_facts(context, token))


def _compose_invite_proof(context: EmailContext) -> Email:
    token = _load_valid_token(context)
    subject = f"Confirm your email to join an organization on {context.settings.product_name}"
    return Email("invite_proof", subject, _collect_names(token), _create_link_facts(context, token))


def _compose_member_removed(context: EmailContext) -> Email:
    org = context.row(Org, "org_id")
    user = context.row(User, "user_id")
    return Email("member_removed", f"You were removed from {org.name}", {"name": user.name, "org": org.name})


def _compose_ownership_offered(context: EmailContext) -> Email:
    org = context.row(Org, "org_id")
    user = context.row(User, "user_id")
    if org.transfer_to != user.id or org.transfer_expires_at is None or org.transfer_expires_at <= context.now:
        raise Obsolete("The offer of ownership ended before the email could be sent.")
    names = {"name": user.name, "org": org.name, "owner": org.owner.name}
    facts = {"until": org.transfer_expires_at, "link": context.link(f"/o/{org.slug}/")}
    return Email("ownership_offered", f"{org.owner.name} offers you {org.name}", names, facts)


def _compose_ownership_offer_sent(context: EmailContext) -> Email:
    org = context.row(Org, "org_id")
    user = context.row(User, "user_id")
    target = context.row(User, "target_id")
    if org.transfer_to != target.id or org.transfer_expires_at is None:
        raise Obsolete("The offer of ownership ended before the email could be sent.")
    names = {"name": user.name, "org": org.name, "target": target.name}
    facts = {"until": org.transfer_expires_at, "link": context.link(f"/o/{org.slug}/settings")}
    return Email("ownership_offer_sent", f"You offered the ownership of {org.name}", names, facts)


def _compose_ownership_transferred(context: EmailContext) -> Email:
    org = context.row(Org, "org_id")
    user = context.row(User, "user_id")
    owner = context.row(User, "target_id")
    names = {"name": user.name, "org": org.name, "owner": owner.name}
    facts = {"is_owner": owner.id == user.id, "link": context.link(f"/o/{org.slug}/")}
    return Email("ownership_transferred", f"{org.name} has a new owner", names, facts)


def _compose_org_deletion(context: EmailContext) -> Email:
    org = context.row(Org, "org_id")
    user = context.row(User, "user_id")
    if org.state is not OrgState.DELETING or org.delete_after is None:
        raise Obsolete("The organization was restored or deleted before the email could be sent.")
    is_owner = org.owner_id == user.id
    facts = {"until": org.delete_after, "link": context.link(f"/o/{org.slug}/") if is_owner else None}
    return Email("org_deletion", f"{org.name} will be deleted", {"name": user.name, "org": org.name}, facts)


COMPOSERS: dict[str, Composer] = {
    "invite": _compose_invite,
    "invite_reminder": _compose_invite_reminder,
    "invite_proof": _compose_invite_proof,
    "member_removed": _compose_member_removed,
    "ownership_offer_sent": _compose_ownership_offer_sent,
    "ownership_offered": _compose_ownership_offered,
    "ownership_transferred": _compose_ownership_transferred,
    "org_deletion": _compose_org_deletion,
}
"""Composers by template. Context: `invite_token_id` for invites, else `org_id` and the recipient's `user_id`.

Mails about ownership to both sides also have `target_id`, the id of the new owner."""


def _load_valid_token(context: EmailContext) -> InviteToken:
    """Return the token of the mail.

    Raises:
        Obsolete: the invite cannot be accepted, or a newer mail replaced this one.
    """
    token = context.row(InviteToken, "invite_token_id")
    _require_open(context, token.invite)
    if token.replaced_at is not None:
        raise Obsolete("A newer mail of this invite replaced this one.")
    return token


def _require_open(context: EmailContext, invite: Invite) -> None:
    if invite.state is not InviteState.PENDING:
        raise Obsolete(f"The invite was {invite.state} before the email could be sent.")
    if invite.expires_at <= context.now:
        raise Obsolete("The invite expired before the email could be sent.")
    if invite.org.state is not OrgState.ACTIVE:
        raise Obsolete("The organization is being deleted.")


def _collect_names(token: InviteToken) -> dict[str, str]:
    return {"org": token.invite.org.name, "inviter": token.invite.inviter.name}


def _create_link_facts(context: EmailContext, token: InviteToken) -> dict[str, object]:
    """Derive the secret of a link, store its hash, and return the facts of an invite email."""
    secret = derive_token(context.settings.secret_key, "invite", token.id, token.generation)
    token.token_hash = fingerprint(secret)
    return {
        "role": ROLES[token.invite.role].noun,
        "until": token.invite.expires_at,
        "link": context.link(f"/invite/{secret}"),
    }
