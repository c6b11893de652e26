"""Text for operators never reaches customers by mail. Operators read it in their own mails."""

from __future__ import annotations

from email.message import EmailMessage

import sqlalchemy as sa

from daemon.mail.composers import COMPOSERS
from portal.database import Database
from portal.models import (
    AlertFormat,
    Bot,
    BotState,
    BotUpdate,
    ForkSync,
    InviteToken,
    Org,
    OutgoingMail,
    Rollout,
    RolloutState,
    TokenDelivery,
    UpdateState,
    User,
    utcnow,
)
from portal.services.alerts import channels
from portal.services.alerts.channel_spec import ChannelSpec
from tests import factories
from tests.daemon.mail.conftest import World, send_every_account_and_team_email
from tests.support import operator_text
from tests.support.cast import Cast
from tests.support.mail import Mailbox
from tests.support.operator_text import find_planted, token
from tests.support.outbox import OutboxWorker, bodies
from tests.support.scene import Scene

OPERATOR = "root@example.com"


def test_customers_get_no_mail_with_text_for_operators(
    mail_worker: OutboxWorker, database: Database, cast: Cast, smtp: Mailbox
) -> None:
    with database.transaction() as session:
        scene = operator_text.plant_fleet(session, cast)
        session.execute(sa.delete(OutgoingMail))
    queue_customers_emails(mail_worker, cast, scene)
    queue_operators_emails(mail_worker)
    mail_worker.send_due()
    send_every_account_and_team_email(mail_worker, add_world(database, cast))

    with database.reading() as session:
        assert set(session.scalars(sa.select(OutgoingMail.template))) == set(COMPOSERS)
        assert len(smtp.messages) == session.scalar(sa.select(sa.func.count()).select_from(OutgoingMail))
    for_operators = "".join(read(message) for message in smtp.messages if message["To"] == OPERATOR)
    shown = {("bots", "needs_attention"), ("nodes", "name"), ("rollouts", "reason"), ("fork_syncs", "error")}
    assert [name for name in shown if token(*name) not in for_operators] == []
    for_customers = {message["Subject"]: read(message) for message in smtp.messages if message["To"] != OPERATOR}
    assert {subject: planted for subject, text in for_customers.items() if (planted := find_planted(text))} == {}


def queue_customers_emails(mail_worker: OutboxWorker, cast: Cast, scene: Scene) -> None:
    """Queue the emails about updates that Alice gets, after one bot of the rollout was updated."""
    alice = {"org_id": cast.org_id, "user_id": cast.people["alice"]}
    with mail_worker.database.transaction() as session:
        updated = session.query(BotUpdate).filter_by(state=UpdateState.UPDATED).one()
        updated.bot.current_digest = scene.new_digest
        rollout_id = updated.rollout_id
    mail_worker.queue("updated", to="alice@example.com", rollout_id=rollout_id, **alice)
    mail_worker.queue("update_failed", to="alice@example.com", rollout_id=rollout_id, **alice)
    image = factories.IMAGE
    mail_worker.queue("update_available", to="alice@example.com", release_id=scene.new, image=image, **alice)


def queue_operators_emails(mail_worker: OutboxWorker) -> None:
    """Queue the emails that operators get."""
    with mail_worker.database.transaction() as session:
        broken = session.query(BotUpdate.id).join(Bot, Bot.id == BotUpdate.bot_id)
        update_id = broken.filter(Bot.state == BotState.MISSING, Bot.needs_attention.is_not(None)).limit(1).scalar()
        rollout_id = session.query(Rollout.id).filter_by(state=RolloutState.PAUSED).scalar()
        sync_id = session.query(ForkSync.id).scalar()
        root = session.query(User).filter_by(email=OPERATOR).one()
        root.weekly_summary = True
        spec = ChannelSpec("Operations", AlertFormat.SLACK, ["node.offline"], "https://chat.example/x")
        channel = channels.add(session, spec, actor=None)
        channel.paused_at = utcnow()
    mail_worker.queue("rollback_failed", to=OPERATOR, update_id=update_id)
    mail_worker.queue("rollout_stopped", to=OPERATOR, rollout_id=rollout_id)
    mail_worker.queue("fork_sync", to=OPERATOR, sync_id=sync_id)
    mail_worker.queue("alerts_paused", to=OPERATOR, channel_id=channel.id)
    mail_worker.queue("weekly_summary", to=OPERATOR, user_id=root.id)


def add_world(database: Database, cast: Cast) -> World:
    """Add an invite to Acme."""
    with database.transaction() as session:
        alice = session.get_one(User, cast.people["alice"])
        invite = factories.invite(session, session.get_one(Org, cast.org_id), alice)
        link = factories.add(session, InviteToken(invite_id=invite.id, delivery=TokenDelivery.MAILED))
        return World(alice.id, cast.org_id, invite.id, link.id)


def read(message: EmailMessage) -> str:
    """Return subject and both bodies of an email, with the spaces at which lines were broken."""
    return " ".join([message["Subject"], *bodies(message)])
