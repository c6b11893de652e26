"""Text columns that customers must not read, and a fleet with a unique text in each. Used by tests of pages, mails.

Every text column is in one of the tables below. A new column fails a test until it is added to one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeDecorator

from portal.models import (
    Base,
    Bot,
    BotPhase,
    BotRequest,
    BotState,
    BotSync,
    BotUpdate,
    EventTag,
    ForkSync,
    ForkSyncState,
    Lease,
    MailState,
    MemberSync,
    Org,
    OutgoingMail,
    PolledImage,
    Provisioning,
    Release,
    RolloutState,
    Snapshot,
    SyncRole,
    UpdateState,
    utcnow,
)
from portal.models.encrypted import EncryptedJSON
from portal.services import events
from tests import factories
from tests.support.cast import Cast
from tests.support.scene import Scene, digest, rollout, small_fleet

SHOWN_TO_OPERATORS = {
    "bot_requests": {"error"},
    "bot_syncs": {"last_error"},
    "bot_updates": {"error"},
    "bots": {"address", "container_name", "creation_error", "needs_attention", "state_detail"},
    "fork_syncs": {"error"},
    "mail_outbox": {"last_error"},
    "member_sync": {"last_error"},
    "nodes": {"docker_url", "last_error", "name"},
    "fleet_settings": {"secret_variables"},
    "polled_images": {"last_error"},
    "releases": {"changelog_error", "quarantine_reason"},
    "rollouts": {"reason"},
}
"""Columns that operators read on a page."""

NOT_SHOWN_TO_CUSTOMERS = {
    "alert_channels": {"host", "name", "pause_reason"},
    "alert_deliveries": {"last_error"},
    "bot_templates": {
        *("agents", "capabilities", "extra", "gateway_url", "header_prefix", "health_path", "hosted_environment"),
        *("image", "secret_variable", "volumes"),
    },
    "bot_updates": {"journal", "new_container_id", "old_container_id"},
    "bots": {
        *("company_id", "container_id", "header_prefix", "health_path", "hold_reason", "lease_owner"),
        *("restart_policy", "secret_variable", "volumes_to_remove"),
    },
    "gateway_processes": {"held"},
    "leases": {"owner"},
    "nodes": {"bot_host", "engine_id", "platform", "snapshot_dir", "tls"},
    "saved_views": {"name", "query"},
    "snapshots": {"archive", "checksum", "helper_digest", "volume"},
}
"""Columns that only commands, jobs or some operators' pages show."""

SECRET = {
    "alert_channels": {"secret", "url"},
    "assertion_keys": {"private_key"},
    "bot_templates": {"api_key", "environment"},
    "bot_updates": {"saved_container"},
    "bots": {"provision_secret", "spec"},
}
"""Columns that no page shows to anybody."""

READABLE = {
    "alert_channels": {"tags"},
    "alert_deliveries": {"channel_id", "message_id"},
    "assertion_keys": {"public_key"},
    "bot_updates": {"log_tail", "previous_digest", "timings"},
    "bots": {"current_digest", "image", "name", "skipped_release_id", "subdomain", "unprotected"},
    "event_personal_data": {"data", "email_normalized", "user_id"},
    "events": {"actor_id", "address", "bot_id", "data", "org_id", "request_id", "rollout_id", "tag", "user_id"},
    "fleet_settings": {"install_id", "parameters"},
    "fork_syncs": {"report"},
    "gateway_tickets": {"state_hash"},
    "invite_tokens": {"token_hash"},
    "mail_outbox": {"context", "dedupe_key", "message_id", "template", "to"},
    "one_time_tokens": {"email", "email_normalized", "token_hash"},
    "organization_invites": {"email", "email_normalized"},
    "orgs": {"name", "slug"},
    "polled_images": {"image", "last_digest"},
    "releases": {
        *("alias_digests", "changelog", "changelog_date", "changelog_version", "digest", "image"),
        *("platform_digests", "repository"),
    },
    "rollouts": {"parameters", "selection"},
    "sessions": {"ip", "user_agent"},
    "users": {"email", "email_normalized", "last_org_id", "name", "password_hash"},
}
"""Columns that customers read in part, that concern them, or whose values are ids, digests or numbers of Flotilla.

Facts of events are planted by `_plant_events`; `tests/portal/views/admin/test_upstream.py` shows reports.
"""

FACTS = ("archive", "container_id", "detail", "docker_url", "error", "node", "reason", "volume")
"""Facts of events that customers must not read."""

_LIMITED_TO: dict[str, Callable[[Any], bool]] = {
    # A bot that needs attention shows nothing else.
    "bots.needs_attention": lambda bot: bot.state is BotState.MISSING,
    "releases.quarantine_reason": lambda release: release.quarantined_at is not None,
}


def list_text_columns() -> set[tuple[str, str]]:
    """List table and name of every column with text, except ids."""
    return {
        (table.name, column.name)
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if _holds_text(column.type) and not column.primary_key and not column.foreign_keys
    }


def token(table: str, column: str) -> str:
    """Return the beginning of every text that is planted in a column, a single word that no page or mail changes."""
    return f"Planted{''.join(part.title() for part in f'{table}_{column}'.split('_'))}N"


def list_tokens(*groups: dict[str, set[str]]) -> list[str]:
    """List the beginnings of all texts that are planted in the columns of the groups."""
    return [token(table, column) for group in groups for table, columns in group.items() for column in columns]


def plant_fleet(session: Session, cast: Cast) -> Scene:
    """Add bots of Acme in all states with updates in all states, and plant a text in every column for operators."""
    org = session.get_one(Org, cast.org_id)
    scene = small_fleet(session, org, bots=8)
    _spread_states(session, scene)
    _add_other_rows(session, cast, scene)
    session.flush()
    for group in (SHOWN_TO_OPERATORS, NOT_SHOWN_TO_CUSTOMERS, SECRET):
        for table, columns in group.items():
            for column in sorted(columns):
                _plant(session, table, column)
    _plant_events(session, cast, scene)
    return scene


def _holds_text(kind: sa.types.TypeEngine[Any]) -> bool:
    inner = kind.impl if isinstance(kind, TypeDecorator) else kind
    return isinstance(inner, sa.String | sa.JSON) and not isinstance(inner, sa.Enum)


def _spread_states(session: Session, scene: Scene) -> None:
    states = [state for state in UpdateState if state is not UpdateState.SKIPPED]
    started = rollout(session, scene, [*states, UpdateState.FAILED])
    session.query(BotUpdate).filter_by(bot_id=scene.bots[len(states)]).one().transient = True
    stopped = factories.rollout(session, session.get_one(Release, scene.new), state=RolloutState.PAUSED)
    for row in (started, stopped):
        row.reason = "set below"
    for number, bot_id in enumerate(scene.bots):
        session.get_one(Bot, bot_id).state = list(BotState)[number % len(BotState)]
        session.get_one(BotSync, bot_id).provisioning = Provisioning.MANAGED
    session.get_one(Bot, scene.bots[-1]).phase = BotPhase.CREATING


def _add_other_rows(session: Session, cast: Cast, scene: Scene) -> None:
    factories.release(session, "1.3.0", digest=digest("c"), quarantined_at=utcnow(), changelog=None)
    session.query(PolledImage).one().errors = 2
    update = session.query(BotUpdate).first()
    assert update is not None
    session.add_all(
        [
            BotRequest(org_id=cast.org_id),
            Lease(name="scheduler", owner="set below"),
            MemberSync(bot_id=scene.bots[0], user_id=cast.people["bob"], desired_role=SyncRole.MEMBER),
            ForkSync(scheduled_for=utcnow(), state=ForkSyncState.REFUSED, claimed_until=utcnow()),
            OutgoingMail(dedupe_key="x", to="x@example.com", template="reset", context={}, state=MailState.FAILED),
            Snapshot(update_id=update.id, node_id=scene.node, volume="set below", archive="set below"),
        ]
    )


def _plant(session: Session, table: str, column: str) -> None:
    kind = next(mapper.class_ for mapper in Base.registry.mappers if mapper.class_.__tablename__ == table)
    wanted = _LIMITED_TO.get(f"{table}.{column}", lambda _row: True)
    for number, row in enumerate(row for row in session.query(kind).all() if wanted(row)):
        setattr(row, column, _shape(kind.__table__.c[column], f"{token(table, column)}{number}"))
    session.flush()


def _shape(column: sa.Column[Any], text: str) -> Any:
    """Return the text in the form that the column has."""
    if (column.table.name, column.name) == ("bot_templates", "image"):
        return f"registry.example/acme/bot:{text}"  # other text is no reference
    if isinstance(column.type, EncryptedJSON):
        return {"Config": {"Env": [f"KEY={text}"]}}
    if not isinstance(getattr(column.type, "impl", None), sa.JSON):
        return text
    is_list = column.name in {*("agents", "capabilities", "secret_variables", "volumes", "volumes_to_remove")}
    return [text] if is_list else {"key": text}


def _plant_events(session: Session, cast: Cast, scene: Scene) -> None:
    known = {"outcome": UpdateState.FAILED, "version": "1.5.0", "role": "member"}
    for tag in EventTag:
        name = "".join(part.title() for part in re.split("[._]", tag))
        data = known | {fact: token("events", fact) + name for fact in FACTS}
        root, bot_id = cast.people["root"], scene.bots[0]
        events.record(session, tag, actor=root, org_id=cast.org_id, bot_id=bot_id, data=data)


def find_planted(text: str) -> set[str]:
    """Return the planted texts that occur."""
    return set(re.findall(r"Planted\w+", text))
