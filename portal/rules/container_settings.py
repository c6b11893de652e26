"""Which settings of a container are valid: variables, volumes, capabilities, paths. Used by the bot template.

Each `find_…` function returns what is wrong and what to do, or None for a valid value.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

_CAPABILITIES = """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH
    FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN
    NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT
    SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
"""
CAPABILITIES = frozenset(_CAPABILITIES.split())
"""The capabilities of Linux, without their prefix `CAP_`."""

BOT_ID_VARIABLE = "FLOTILLA_BOT_ID"
"""The variable in which every container finds the id of its bot, the audience of the gateway's assertions."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_HEADER_PREFIX = re.compile(r"x(?:-[a-z0-9]+)+")
_HEALTH_PATH = re.compile(r"/[!-\"$-~]*")
_UNSAFE_IN_PATHS = re.compile(r"[\x00-\x20\x7f:,\\]")
_MAX_VARIABLES = 200
_MAX_VALUE = 10_000
_MAX_VOLUMES = 20
_MAX_PATH = 200
_MAX_HEADER_PREFIX = 64
_MAX_URL = 300
_MAX_JSON = 50_000


class InvalidLine(ValueError):
    """A line of variables that cannot be read. The message names its number and never its content."""


def parse_variables(text: str) -> dict[str, str]:
    """Parse variables, one `NAME=value` per line. Blank lines and lines that begin with `#` are ignored.

    Raises:
        InvalidLine: a line has no `=`, or two lines have the same name.
    """
    variables: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, sign, value = stripped.partition("=")
        if not sign:
            raise InvalidLine(f"Line {number} is not of the form NAME=value.")
        if name in variables:
            raise InvalidLine(f"Line {number} sets {name} again.")
        variables[name] = value
    return variables


def find_variable_name_problem(name: str) -> str | None:
    """Check the name of an environment variable."""
    if name == BOT_ID_VARIABLE:
        return f"{name} is set by Flotilla. Use another name."
    if _VARIABLE.fullmatch(name):
        return None
    return f"{name[:100]!r} is not the name of a variable. Use up to 100 letters, digits and underscores."


def find_variables_problem(variables: Mapping[str, str], taken: Collection[str] = ()) -> str | None:
    """Check environment variables.

    Args:
        variables: values by name.
        taken: names that other settings set.
    """
    if len(variables) > _MAX_VARIABLES:
        return f"Set at most {_MAX_VARIABLES} variables."
    for name, value in variables.items():
        if problem := find_variable_name_problem(name):
            return problem
        if name in taken:
            return f"{name} is set by another setting of the template. Remove it here."
        if len(value) > _MAX_VALUE or not value.isprintable():
            return f"The value of {name} must be one line with at most {_MAX_VALUE} characters."
    return None


def find_volumes_problem(paths: Iterable[str]) -> str | None:
    """Check the paths at which the volumes of a container are mounted."""
    known: set[str] = set()
    for path in paths:
        if not path.startswith("/") or path == "/" or len(path) > _MAX_PATH or _UNSAFE_IN_PATHS.search(path):
            return f"{path[:_MAX_PATH]!r} is not the path of a folder in the container, such as /data."
        if posixpath.normpath(path) != path:
            return f"Write {path!r} as {posixpath.normpath(path)!r}."
        if path in known:
            return f"{path} is listed twice."
        known.add(path)
    return f"Use at most {_MAX_VOLUMES} volumes." if len(known) > _MAX_VOLUMES else None


def normalize_capability(name: str) -> str:
    """Return a capability in the form of `CAPABILITIES`."""
    return name.strip().upper().removeprefix("CAP_")


def find_capabilities_problem(names: Iterable[str]) -> str | None:
    """Check capabilities, which are written as `normalize_capability` returns them."""
    for name in names:
        if name not in CAPABILITIES:
            return f"{name[:50]!r} is not a capability of Linux, such as CHOWN. All that are not listed are dropped."
    return None


def find_header_prefix_problem(prefix: str) -> str | None:
    """Check the common beginning of the identity headers."""
    if len(prefix) <= _MAX_HEADER_PREFIX and _HEADER_PREFIX.fullmatch(prefix):
        return None
    return "Use lower-case letters, digits and dashes after x-, such as x-platform-user."


def find_health_path_problem(path: str) -> str | None:
    """Check the path of the health check."""
    if len(path) <= _MAX_PATH and _HEALTH_PATH.fullmatch(path) and not path.startswith("//"):
        return None
    return f"Enter a path such as /health, with at most {_MAX_PATH} characters."


def find_url_problem(url: str) -> str | None:
    """Check the URL of a service that bots use. It contains no password, because pages show it."""
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_valid = False
    if not is_valid or len(url) > _MAX_URL or _UNSAFE_IN_PATHS.search(url.replace(":", "")):
        return f"Enter an address that begins with https:// or http://, with at most {_MAX_URL} characters."
    if parts.username is not None or parts.password is not None:
        return "Leave out the user and the password. Use the API key for secrets."
    return None


def find_range_problem(value: int | None, smallest: int, largest: int) -> str | None:
    """Check a number, where None means that there is no limit."""
    return None if value is None or smallest <= value <= largest else f"Enter a number from {smallest} to {largest}."


def find_json_problem(value: Any, kind: type) -> str | None:
    """Check a JSON value that is sent to bots: an object, or a list of objects.

    Args:
        value: the value, as `json.loads` returns it.
        kind: `dict` or `list`.
    """
    items = value if isinstance(value, list) else []
    if not isinstance(value, kind) or not all(isinstance(item, dict) for item in items):
        return "Enter a JSON list of objects." if kind is list else "Enter a JSON object."
    try:
        length = len(json.dumps(value, allow_nan=False))
    except ValueError:
        return "Leave out NaN and Infinity, which are not JSON."
    return f"Use at most {_MAX_JSON} characters." if length > _MAX_JSON else None
