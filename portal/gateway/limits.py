"""Limits of the gateway, per process: sizes, counts, and times in seconds. Used by all its modules."""

from __future__ import annotations

DECISION_SECONDS = 2.0
"""A decision is used for this long after the database was read."""
REVOCATION_SECONDS = 4.0
"""An open request or socket whose decision could not be confirmed for this long is closed."""
DATABASE_SECONDS = 5.0
"""How long a request waits for the database."""
DATABASE_THREADS = 4
"""Number of threads that read decisions, and of threads that make changes."""

HOLD_SECONDS = 30.0
"""How long a request waits for the end of an update."""
MAX_HELD_PER_BOT = 2000
MAX_HELD = 5000
MAX_PER_USER = 200
"""Requests and sockets of one user at the same time."""
CONNECTIONS_PER_BOT = 512

CONNECT_SECONDS = 5.0
"""How long a connection to a bot may take, with the wait for one of `CONNECTIONS_PER_BOT`."""
HANDSHAKE_SECONDS = 30.0
"""How long a bot may take to accept a WebSocket."""
CLIENT_IDLE_SECONDS = 60.0
"""How long a client may neither send nor receive a byte while a request runs, and how long it may take to receive a
page or a file of the gateway."""
BOT_IDLE_SECONDS = 600.0
"""How long a bot may send nothing: before its response, between two parts of it, and on a socket; and how long it may
receive nothing of a request's body."""
DROP_SECONDS = 10.0
"""How long the rest of a request may take that was answered before it had arrived."""
KEEP_ALIVE_SECONDS = 75.0
"""How long a client may take for its next request, from the first to the last byte of the headers."""
BOT_KEEP_ALIVE_SECONDS = 4.0
"""How long an idle connection to a bot is kept. Servers close theirs after 5 seconds or more."""

OPEN_FILES = 16 * 1024
"""Files and connections, unless the system permits more or fewer. Strangers can fill 64 KB with each of them."""
MAX_LINE_BYTES = 8 * 1024
MAX_HEADER_BYTES = 32 * 1024
"""Size of all names and values of the headers of a request."""
MAX_HEADERS = 100
MAX_PIPELINED = 16
"""Requests that a client may send before the response to an earlier one. Further ones are not read."""
MAX_BOT_HEAD_BYTES = 64 * 1024
"""Size of the head of a response, with the interim responses before it."""
MAX_BOT_RESPONSES = 32
"""Responses to one request: interim ones such as 103, and the final one."""
MAX_FRAMING_BYTES = 128 * 1024
MAX_FRAMING_FACTOR = 10
"""What may be sent besides a body: some bytes, and for each byte of the body, such as the sizes of chunks."""
BUFFER_BYTES = 64 * 1024
"""How much of a body is in memory, in each direction."""
MAX_PARTS = 1024
"""Number of its parts, such as chunks of one byte."""

SHUTDOWN_SECONDS = 15.0
"""How long running requests may take to end when the process is stopped."""
