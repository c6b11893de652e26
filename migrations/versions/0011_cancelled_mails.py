"""Tell emails that are no longer needed apart from those that could not be delivered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_UNDELIVERABLE = (
    "The mail server refused the %",
    "Gave up after %",
    "Given up after %",
    "The email address is not valid in an email header.",
    "The address cannot be written into a mail.",
)
"""Patterns of the reasons that senders have given for emails that could not be delivered."""

_outbox = sa.table("mail_outbox", sa.column("state", sa.String), sa.column("last_error", sa.String))


def upgrade() -> None:
    """Cancel the failed emails that were no longer needed. The others wait for an operator."""
    reason = sa.func.coalesce(_outbox.c.last_error, "")
    is_undeliverable = sa.or_(*(reason.like(pattern) for pattern in _UNDELIVERABLE))
    op.execute(sa.update(_outbox).where(_outbox.c.state == "failed", ~is_undeliverable).values(state="cancelled"))


def downgrade() -> None:
    """Use one state for both again."""
    op.execute(sa.update(_outbox).where(_outbox.c.state == "cancelled").values(state="failed"))
