"""The Docker engines that bots run on."""

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
    """Every node, whether it answers, and what was wrong last."""
    authorization.require_operator()
    return htmx.page(
        "admin/nodes.html", live={"nodes": "admin/_nodes.html"}, lines=nodes.list_with_bot_counts(session())
    )


@pages.post("/<node_id>/drain")
def drain(node_id: str) -> Response:
    """Keep it out of updates and new bots."""
    operator = authorization.require_operator()
    node = nodes.get_node(session(), node_id)
    nodes.set_draining(session(), node, draining=True, actor=operator.id)
    flash(f"{node.name} takes no updates and no new bots. Bots on it keep running.", "info")
    return htmx.see_other(url_for("admin_nodes.index"))


@pages.post("/<node_id>/activate")
def activate(node_id: str) -> Response:
    """Let it take part again."""
    operator = authorization.require_operator()
    node = nodes.get_node(session(), node_id)
    nodes.set_draining(session(), node, draining=False, actor=operator.id)
    flash(f"{node.name} takes part again.", "info")
    return htmx.see_other(url_for("admin_nodes.index"))
