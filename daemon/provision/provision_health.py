"""The health call of the provision protocol, sent to many bots. Used by `flotilla doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from daemon.provision.client import ProvisionClient
from daemon.provision.failures import CallFailed

_CALL_SECONDS = 3.0
_PARALLEL = 64


def find_problems(addresses: Mapping[str, str]) -> dict[str, str]:
    """Ask bots whether they can be provisioned. Return the reasons why some cannot, by name.

    Args:
        addresses: `host:port` of each bot, by its name.
    """
    with ThreadPoolExecutor(_PARALLEL) as pool:
        reasons = pool.map(_find_problem, addresses.values())
        return {name: reason for name, reason in zip(addresses, reasons, strict=True) if reason is not None}


def _find_problem(address: str) -> str | None:
    try:
        can_be_provisioned = ProvisionClient(address, [], _CALL_SECONDS).check_health()
    except CallFailed as error:
        return str(error)
    return None if can_be_provisioned else "the bot has no provision secret"
