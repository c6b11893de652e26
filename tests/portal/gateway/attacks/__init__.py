"""Raw requests that attack the gateway. Used by `test_attacks.py`.

Each is sent over a socket as it is, with the session of a member. The bot must not see a forged identity, a cookie of
portal or gateway, or a path of `/internal`, and must not see more requests than the gateway was asked for.
"""

from __future__ import annotations

from tests.portal.gateway.attacks.framing import list_framing, list_upgrades
from tests.portal.gateway.attacks.heads import list_hosts, list_malformed
from tests.portal.gateway.attacks.identity import list_identity
from tests.portal.gateway.attacks.paths import list_internal
from tests.portal.gateway.attacks.request import Attack


def list_attacks(host: str, token: str) -> list[Attack]:
    """Return all attacks against the bot at a host."""
    lists = (list_identity, list_internal, list_framing, list_upgrades, list_hosts, list_malformed)
    return [attack for attacks in lists for attack in attacks(host, token)]
