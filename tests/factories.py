"""Factories for rows in tests. Each adds one row to the session with plausible values, flushes it and returns it.

Only what a test is about needs to be named; every other column has a default that keeps rows apart.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from portal.models import (
    Audience,
    Base,
    Bot,
    BotState,
    BotSync,
    BotTemplate,
    BotUpdate,
    Invite,
    Membership,
    MembershipRole,
    Node,
    Org,
    OutgoingMail,
    PolledImage,
    Release,
    Rollout,
    Trigger,
    User,
    utcnow,
)
from portal.rules.strategies import StrategyName
from portal.services.accounts import sessions
from portal.services.gateway import entering
from portal.tokens import fingerprint, generate_token

REPOSITORY = "registry.example/acme/paperclip"
IMAGE = f"{REPOSITORY}:managed"

Row = TypeVar("Row", bound=Base)

_numbers = count(1)


def add(session: Session, row: Row) -> Row:
    """Add a row and flush it, so that it has its id."""
    session.add(row)
    session.flush()
    return row


def user(session: Session, name: str = "alice", **values: Any) -> User:
    """Add a user whose email is `<name>@example.com`."""
    email = values.pop("email", f"{name.lower()}@example.com")
    return add(session, User(email=email, email_normalized=email.lower(), name=name.title(), **values))


def org(session: Session, owner: User, slug: str = "acme", **values: Any) -> Org:
    """Add an organization with its owner's membership."""
    values.setdefault("name", slug.title())
    row = add(session, Org(slug=slug, owner_id=owner.id, **values))
    membership(session, row, owner, MembershipRole.ADMIN)
    return row


def membership(session: Session, org: Org, user: User, role: MembershipRole = MembershipRole.MEMBER) -> Membership:
    """Add an active membership."""
    return add(session, Membership(org_id=org.id, user_id=user.id, role=role))


def invite(session: Session, org: Org, inviter: User, email: str = "new@example.com", **values: Any) -> Invite:
    """Add a pending invite for a week, by default with the role of a member."""
    values.setdefault("role", MembershipRole.MEMBER)
    values.setdefault("expires_at", utcnow() + timedelta(days=7))
    return add(
        session, Invite(org_id=org.id, email=email, email_normalized=email.lower(), invited_by=inviter.id, **values)
    )


def node(session: Session, name: str = "north", **values: Any) -> Node:
    """Add a node whose engine is never reached."""
    values.setdefault("docker_url", "unix:///nowhere")
    values.setdefault("snapshot_dir", "/nowhere")
    return add(session, Node(name=name, **values))


def digest(seed: str | int) -> str:
    """Return a digest that ends with the seed, without its dots."""
    return f"sha256:{str(seed).replace('.', ''):0>64}"


def release(session: Session, version: str = "1.0.0", **values: Any) -> Release:
    """Add a release of `REPOSITORY` whose changelog names its version; `changelog=None` leaves the changelog out."""
    changelog = {"version": version, "date": "2026-11-20", "sections": []}
    defaults = {"repository": REPOSITORY, "image": IMAGE, "digest": digest(next(_numbers)), "changelog": changelog}
    return add(session, Release(**{**defaults, **values}))


def polled_image(session: Session, release: Release, image: str = IMAGE, **values: Any) -> PolledImage:
    """Add a polled image whose tag points at `release`."""
    return add(session, PolledImage(image=image, release_id=release.id, last_digest=release.digest, **values))


def bot(session: Session, org: Org, node: Node, **values: Any) -> Bot:
    """Add a running bot, by default one that follows `IMAGE`, with the row of its sync."""
    number = next(_numbers)
    defaults = {"name": f"bot {number}", "subdomain": f"bot-{number}", "image": IMAGE, "state": BotState.RUNNING}
    row = add(session, Bot(org_id=org.id, node_id=node.id, **{**defaults, **values}))
    add(session, BotSync(bot_id=row.id))
    return row


def rollout(session: Session, release: Release, **values: Any) -> Rollout:
    """Add a scheduled rollout of `release` to all bots by rolling wave, started by an operator."""
    defaults = {
        "strategy": StrategyName.ROLLING_WAVE,
        "parameters": {},
        "trigger": Trigger.OPERATOR,
        "audience": Audience.ALL,
        "ignore_windows": True,
    }
    return add(session, Rollout(release_id=release.id, **{**defaults, **values}))


def update(session: Session, rollout: Rollout, bot: Bot, **values: Any) -> BotUpdate:
    """Add a pending update of `bot` in `rollout`."""
    return add(session, BotUpdate(rollout_id=rollout.id, bot_id=bot.id, **values))


def gateway_session(session: Session, user: User, bot: Bot) -> str:
    """Sign a user in to the portal and to the bot's host, and return the token of the session at the bot's host."""
    now = utcnow()
    portal_session = sessions.start(session, user.id, now=now, user_agent="test", ip="127.0.0.1")
    state = generate_token()
    ticket = entering.mint_ticket(session, bot.id, fingerprint(portal_session), state, now)
    token = entering.redeem_ticket(session, ticket, bot.subdomain, state, now)
    assert token is not None
    return token


def bot_template(session: Session, **values: Any) -> BotTemplate:
    """Set up the bot template, with `IMAGE` unless it has another one."""
    row = session.get_one(BotTemplate, 1)
    for name, value in {"image": row.image or IMAGE, **values}.items():
        setattr(row, name, value)
    session.flush()
    return row


def mail(session: Session, **values: Any) -> OutgoingMail:
    """Add a due email of the outbox that no worker can compose."""
    defaults = {"to": "new@example.com", "template": "signup", "dedupe_key": f"mail {next(_numbers)}"}
    return add(session, OutgoingMail(**{**defaults, **values}))
