"""Page with the nodes, the Docker engines that bots run on. Used by operators, who can drain a node."""

from __future__ import annotations

from flask import Blueprint, flash, url_for
from werkzeug.wrappers import Response

from portal.services.bots import nodes
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_nodes", __name__, url_prefix="/admin/nodes")


@pages.get("")
def index() -> Response:
    """Show every node with its state, its number of bots and its last error."""
    authorization.require_operator()
    return htmx.page(
        "admin/nodes.html", live={"nodes": "admin/_nodes.html"}, nodes=nodes.list_with_bot_counts(session())
    )


@pages.post("/<node_id>/drain")
def drain(node_id: str) -> Response:
    """Stop updates and new bots on a node; its bots keep running."""
    operator = authorization.require_operator()
    node = nodes.get_node(session(), node_id)
    nodes.set_draining(session(), node, draining=True, actor=operator.id)
    flash(f"{node.name} is draining: its bots keep running, but get no updates, and it accepts no new bots.", "info")
    return htmx.see_other(url_for("admin_nodes.index"))


@pages.post("/<node_id>/activate")
def activate(node_id: str) -> Response:
    """Allow updates and new bots on a node again."""
    operator = authorization.require_operator()
    node = nodes.get_node(session(), node_id)
    nodes.set_draining(session(), node, draining=False, actor=operator.id)
    flash(f"{node.name} is active: it gets updates and new bots again.", "info")
    return htmx.see_other(url_for("admin_nodes.index"))
