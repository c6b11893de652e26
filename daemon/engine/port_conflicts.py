"""Ports that the engine does not give to a container. Used where errors of the engine are described."""

from __future__ import annotations

_PORT_TAKEN = "port is already allocated"
_RESTART_ENGINE = "If no other container publishes this port, restart the Docker engine of the node."


def explain_port_conflict(error: str) -> str:
    """Add what to do to an error of the engine about a port, and return other errors as they are.

    Docker 20.10 that is killed while it starts a container keeps the port of the node until the engine is restarted.
    """
    return f"{error.rstrip('. ')}. {_RESTART_ENGINE}" if _PORT_TAKEN in error else error
