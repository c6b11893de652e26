"""A browser without JavaScript: opens pages of the portal and submits their forms. Used by checks of the demo."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

import requests

from demo.processes import DemoError

_SECONDS = 30


@dataclass
class Form:
    """A form of a page: where it is sent, and the values of its fields as the page shows them."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class FormBrowser:
    """A browser with the cookies of one person.

    Args:
        base_url: address of the portal.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._session = requests.Session()
        self._session.trust_env = False

    def open(self, path: str) -> str:
        """Open a page, follow redirects, and return its text.

        Raises:
            DemoError: the portal refuses the page.
        """
        return self._require_page(self._session.get(self._base_url + path, timeout=_SECONDS))

    def submit(self, path: str, action: str, **values: str) -> str:
        """Open a page, fill in the form whose action ends with `action`, submit it, and return the next page.

        Raises:
            DemoError: the page has no such form, or the portal refuses it.
        """
        form = next((form for form in read_forms(self.open(path)) if form.action.endswith(action)), None)
        if form is None:
            raise DemoError(f"the page {path} has no form for {action}")
        url, data = self._base_url + form.action, {**form.fields, **values}
        return self._require_page(self._session.post(url, data, headers={"Origin": self._base_url}, timeout=_SECONDS))

    @staticmethod
    def _require_page(response: requests.Response) -> str:
        if not response.ok:
            raise DemoError(f"the portal answered HTTP {response.status_code} for {response.url}")
        return response.text


def read_forms(page: str) -> list[Form]:
    """Read all forms of a page with the values of their inputs and selects."""
    parser = _FormParser()
    parser.feed(page)
    return parser.forms


class _FormParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(found.get("action", "")))
        elif tag == "select":
            self._select = found.get("name", "")
        elif self.forms:
            self._add_field(tag, found, self.forms[-1].fields)

    def _add_field(self, tag: str, found: dict[str, str], fields: dict[str, str]) -> None:
        is_unchecked = found.get("type") in {"checkbox", "radio"} and "checked" not in found
        if tag == "input" and "name" in found and not is_unchecked:
            fields[found["name"]] = found.get("value", "")
        elif tag == "option" and ("selected" in found or self._select not in fields):
            fields[self._select] = found.get("value", "")
