"""Rows that the background processes work on."""

from __future__ import annotations

from portal.database import Database
from portal.models import Bot, BotState, Node, Org, User

IMAGE = "registry.test/acme/bot:stable"


def add_node(database: Database, name: str = "one", docker_url: str = "unix:///nowhere.sock") -> Node:
    """Add a node."""
    with database.transaction() as session:
        node = Node(name=name, docker_url=docker_url, snapshot_dir="/var/lib/flotilla-test")
        session.add(node)
    return node


def add_bot(database: Database, node: Node, image: str = IMAGE, name: str = "desk") -> Bot:
    """Add a running bot of an organization of its own."""
    with database.transaction() as session:
        owner = User(email=f"{name}@acme.test", email_normalized=f"{name}@acme.test", name=name)
        session.add(owner)
        session.flush()
        org = Org(slug=name, name=name, owner_id=owner.id)
        session.add(org)
        session.flush()
        bot = Bot(
            org_id=org.id,
            node_id=node.id,
            name=name,
            subdomain=name,
            image=image,
            state=BotState.RUNNING,
            container_id=f"container-of-{name}",
            current_digest="sha256:" + 64 * "0",
        )
        session.add(bot)
    return bot
