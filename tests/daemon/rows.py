"""Rows for tests of the daemon: a node and a running bot. Used where a test needs a `Database`, not a session."""

from __future__ import annotations

from portal.database import Database
from portal.models import Bot, Node
from tests import factories

IMAGE = "registry.test/acme/bot:stable"


def add_node(database: Database, name: str = "one", docker_url: str = "unix:///nowhere.sock") -> Node:
    """Add a node."""
    with database.transaction() as session:
        return factories.node(session, name, docker_url=docker_url, snapshot_dir="/var/lib/flotilla-test")


def add_bot(database: Database, node: Node, image: str = IMAGE, name: str = "desk") -> Bot:
    """Add a running bot in a new organization. Bot, organization and owner all have the given name."""
    with database.transaction() as session:
        owner = factories.user(session, name, email=f"{name}@acme.test")
        return factories.bot(
            session,
            factories.org(session, owner, name, name=name),
            node,
            name=name,
            subdomain=name,
            image=image,
            container_id=f"container-of-{name}",
            current_digest="sha256:" + 64 * "0",
        )
