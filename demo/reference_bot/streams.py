"""Long-lived connections: a WebSocket that echoes at `/ws`, server-sent events at `/events`. Used by `web`."""

from __future__ import annotations

import base64
import binascii
import socket
from contextlib import suppress
from http import HTTPStatus

from .activity import Activity
from .exchange import Exchange
from .websocket import WebSocket, accept_value

EVENT_SECONDS = 1
"""Pause between two events."""


def serve_websocket(exchange: Exchange, activity: Activity) -> None:
    """Answer a handshake, and echo messages until either side closes."""
    key = exchange.headers.get("Sec-WebSocket-Key", "")
    upgrades = exchange.headers.get("Upgrade", "").lower() == "websocket"
    if (
        exchange.command != "GET"
        or not upgrades
        or exchange.headers.get("Sec-WebSocket-Version") != "13"
        or not _is_valid_key(key)
    ):
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        exchange.send(HTTPStatus.UPGRADE_REQUIRED, "text/plain", b"a WebSocket of version 13 is required", headers)
        return
    exchange.close_connection = True
    exchange.send_response(HTTPStatus.SWITCHING_PROTOCOLS)
    exchange.send_header("Upgrade", "websocket")
    exchange.send_header("Connection", "Upgrade")
    exchange.send_header("Sec-WebSocket-Accept", accept_value(key))
    exchange.end_headers()
    # A silent client stays connected; TCP finds out when its machine is gone.
    exchange.connection.settimeout(None)
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    websocket = WebSocket(exchange.rfile, exchange.connection)
    with activity.stream(websocket.close):
        websocket.echo()
        exchange.discard_input()


def serve_events(exchange: Exchange, activity: Activity) -> None:
    """Send the numbers from 1 as events until the client disconnects or the bot stops."""
    exchange.close_connection = True
    exchange.send_response(HTTPStatus.OK)
    for name, value in (
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
    ):
        exchange.send_header(name, value)
    exchange.end_headers()
    number = 0
    with suppress(OSError):
        while exchange.command == "GET" and not activity.stopping.is_set():
            number += 1
            exchange.wfile.write(f"id: {number}\ndata: {number}\n\n".encode())
            activity.stopping.wait(EVENT_SECONDS)


def _is_valid_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False
