"""Creation of bots from the template: add the rows, retry a failed creation. Used by pages and commands.

These functions write only rows. `daemon.bots.create` creates the container, as `creation_progress` records.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotPhase,
    BotRequest,
    BotSync,
    BotTemplate,
    EventTag,
    Node,
    Org,
    Provisioning,
    new_id,
    update_where,
)
from portal.rules.allowlist import Allowlist
from portal.services import events
from portal.services.accounts import accounts
from portal.services.bots import bot_template, placement, subdomains
from portal.services.bots.placement import Place
from portal.services.errors import ConflictError
from portal.services.events import Actor
from portal.services.orgs import member_sync, orgs
from portal.services.releases import polling, releases
from portal.services.syncs import provision_secrets


@dataclass(frozen=True, kw_only=True)
class BotOptions:
    """What an operator may choose for a new bot. None means that Flotilla chooses.

    Attributes:
        node: the node.
        name: display name; by default the name of the organization.
        subdomain: subdomain; by default derived from the URL name of the organization.
    """

    node: Node | None = None
    name: str | None = None
    subdomain: str | None = None


@dataclass(frozen=True, kw_only=True)
class ContainerSettings:
    """The part of the template that only the container needs. It is stored encrypted in `Bot.spec` until then.

    Attributes:
        creation_id: changes with the settings. A container with another id is replaced.
    """

    creation_id: str
    environment: dict[str, str]
    volumes: list[str]
    memory_mb: int | None
    cpu_millis: int | None
    pids_limit: int | None
    capabilities: list[str]


def create_bot(
    session: Session,
    allowlist: Allowlist,
    org: Org,
    options: BotOptions | None = None,
    *,
    now: datetime,
    actor: Actor = None,
) -> Bot:
    """Add a bot of an organization from the template. A worker then creates its container.

    Args:
        session: a writing transaction.
        allowlist: the images that may run.
        org: the organization.
        options: what the operator chose.
        now: the moment.
        actor: the operator; None for the command line and for automatic creation.

    Raises:
        InvalidError: the name or the subdomain is not valid, or the allowlist does not admit the image.
        ConflictError: the template has no image, the organization is being deleted, or the subdomain is taken.
        NoRoomError: no node can take the bot.
    """
    options = options or BotOptions()
    # Everywhere the lock of the template comes last, after those of the organization and of a bot.
    org = orgs.lock_active_org(session, org.id)
    template = bot_template.lock_template(session)
    _require_image(template, allowlist)
    name = accounts.require_valid_name(options.name or org.name)
    subdomain = options.subdomain or subdomains.find_free_subdomain(session, org.slug)
    subdomains.require_free_subdomain(session, subdomain)
    place = placement.choose_place(session, options.node)
    bot = _build_bot(template, place, now)
    bot.org_id, bot.name, bot.subdomain = org.id, name, subdomain
    _insert(session, bot)
    session.add(_build_sync(template, bot, now))
    session.execute(sa.delete(BotRequest).where(BotRequest.org_id == org.id))
    data = {"image": bot.image, "node": place.node.name, "port": place.port, "subdomain": subdomain}
    events.record(session, EventTag.BOT_CREATED, actor=actor, org_id=org.id, bot_id=bot.id, data=data)
    member_sync.set_desired_roles_for_bot(session, bot, now)
    polling.schedule_first_poll(session, bot.image, now)
    return bot


def retry_creation(session: Session, allowlist: Allowlist, bot: Bot, *, now: datetime, actor: Actor) -> None:
    """Try again at once to create the container of a bot, with the current template.

    Args:
        session: a writing transaction.
        allowlist: the images that may run.
        bot: the bot.
        now: the moment.
        actor: the operator; None for the command line.

    Raises:
        InvalidError: the allowlist does not admit the image.
        ConflictError: the bot is not being created, or the template has no image.
    """
    # The worker that creates the container locks the bot before the template, too.
    session.refresh(bot, with_for_update=True)
    template = bot_template.lock_template(session)
    _require_image(template, allowlist)
    values = {
        **_copy_values(template),
        "spec": _build_spec(template),
        "creation_due_at": now,
        "creation_attempts": 0,
        "creation_error": None,
    }
    if not update_where(session, Bot, Bot.id == bot.id, Bot.phase == BotPhase.CREATING, **values):
        raise ConflictError(f"{bot.name} is not being created.")
    session.refresh(bot)
    polling.check_now(session, bot.image, now)
    events.record(session, EventTag.BOT_CREATION_RETRIED, actor=actor, org_id=bot.org_id, bot_id=bot.id)


def _require_image(template: BotTemplate, allowlist: Allowlist) -> None:
    if template.image is None:
        raise ConflictError(
            "The bot template has no image yet. Set it under Settings or with `flotilla template set`."
        )
    releases.require_allowed_image(allowlist, template.image)


def _build_bot(template: BotTemplate, place: Place, now: datetime) -> Bot:
    return Bot(
        node_id=place.node.id,
        host_port=place.port,
        phase=BotPhase.CREATING,
        creation_due_at=now,
        spec=_build_spec(template),
        provision_secret={"current": provision_secrets.generate(), "next": None},
        **_copy_values(template),
    )


def _copy_values(template: BotTemplate) -> dict[str, Any]:
    """Return the settings of the template that are columns of a bot, too."""
    names = ("image", "release_channel", "port", "health_path", "health_expectation", "header_prefix")
    return {name: getattr(template, name) for name in (*names, "secret_variable")}


def _build_spec(template: BotTemplate) -> dict[str, Any]:
    container = ContainerSettings(
        creation_id=new_id(),
        environment={**(template.environment or {}), **template.hosted_environment},
        volumes=template.volumes,
        memory_mb=template.memory_mb,
        cpu_millis=template.cpu_millis,
        pids_limit=template.pids_limit,
        capabilities=template.capabilities,
    )
    return {"creation": asdict(container)}


def _build_sync(template: BotTemplate, bot: Bot, now: datetime) -> BotSync:
    return BotSync(
        bot_id=bot.id,
        provisioning=Provisioning.MANAGED,
        budget_cents=template.budget_cents,
        per_agent_budget_cents=template.per_agent_budget_cents,
        changed_at=now,
    )


def _insert(session: Session, bot: Bot) -> None:
    try:
        with session.begin_nested():
            session.add(bot)
    except IntegrityError:  # neither an adoption nor the removal of a node locks the template
        raise ConflictError("The subdomain was taken, or the node removed, at the same moment. Try again.") from None
