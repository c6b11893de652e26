"""The browser of the tests: Chromium, restricted to loopback addresses. Used by the fixture `browser`."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from demo.processes import MissingRequirement

_HOSTS = "MAP *.fleet.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE *.localhost"
ARGUMENTS = [
    "--no-sandbox",  # Chromium's sandbox does not work for root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--ignore-certificate-errors",  # service workers need HTTPS without errors; see tls_front
    f"--host-resolver-rules={_HOSTS}",
]


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run the browser for the duration of a `with` block.

    Raises:
        MissingRequirement: Chromium is not installed.
    """
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise MissingRequirement("Chromium is not installed: apt-get install chromium (or make system)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
