"""Descriptions of browsers by their `User-Agent` header. Used by the list of sessions on the account page."""

from __future__ import annotations

# The order matters: browsers include each other's names, so the most specific name comes first.
_BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser": "Samsung Internet",
    "Firefox": "Firefox",
    "FxiOS": "Firefox",
    "Chrome": "Chrome",
    "CriOS": "Chrome",
    "Safari": "Safari",
}
_SYSTEMS = {
    "Android": "Android",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}


def describe_browser(user_agent: str) -> str:
    """Return browser and operating system of a `User-Agent` header, such as `Firefox on Windows`."""
    browser = _find_name(_BROWSERS, user_agent) or "Unknown browser"
    system = _find_name(_SYSTEMS, user_agent)
    return f"{browser} on {system}" if system else browser


def _find_name(names: dict[str, str], user_agent: str) -> str | None:
    return next((name for token, name in names.items() if token in user_agent), None)
