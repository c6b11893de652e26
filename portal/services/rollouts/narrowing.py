"""Narrowing down the bots of a rollout by organization, label, node and channel. Used by selection and its form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import sqlalchemy as sa

from portal.models import Bot, BotLabel, Channel, Org


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """Which bots of an audience a rollout takes. Without values, it takes all.

    Attributes:
        orgs: only bots of these organizations, by URL name.
        except_orgs: no bots of these organizations, by URL name.
        labels: only bots with at least one of these labels.
        nodes: only bots on these nodes, by id.
        channels: only bots that follow these channels.
        except_bots: not these bots, by id.
    """

    orgs: tuple[str, ...] = ()
    except_orgs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    except_bots: tuple[str, ...] = ()

    @classmethod
    def load(cls, stored: Mapping[str, Any] | None) -> Self:
        """Return the narrowing that `store` has stored."""
        return cls(**{name: tuple(values) for name, values in (stored or {}).items()})

    def store(self) -> dict[str, Any] | None:
        """Return the values that are set, for a JSON column; None if there are none."""
        return {name: list(values) for name, values in asdict(self).items() if values} or None

    def list_conditions(self, *, with_excepted_bots: bool = False) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for bots.

        Args:
            with_excepted_bots: include the bots of `except_bots`, for lists in which an operator chooses them.
        """
        conditions: list[sa.ColumnElement[bool]] = []
        if self.orgs:
            conditions.append(Bot.org_id.in_(_select_orgs(self.orgs)))
        if self.except_orgs:
            conditions.append(Bot.org_id.not_in(_select_orgs(self.except_orgs)))
        if self.labels:
            conditions.append(Bot.id.in_(sa.select(BotLabel.bot_id).where(BotLabel.label.in_(self.labels))))
        if self.nodes:
            conditions.append(Bot.node_id.in_(self.nodes))
        if self.channels:
            conditions.append(Bot.release_channel.in_([Channel(channel) for channel in self.channels]))
        if self.except_bots and not with_excepted_bots:
            conditions.append(Bot.id.not_in(self.except_bots))
        return conditions


def _select_orgs(slugs: tuple[str, ...]) -> sa.Select[str]:
    return sa.select(Org.id).where(Org.slug.in_(slugs))
