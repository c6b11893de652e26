"""The documentation: its links, the paths that it names, the commands of the Makefile, and the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
RULES = ROOT / "docs" / "where-is-the-rule.md"
MIN_RULES = 50
CONTRIBUTOR_PAGES = [page for page in PAGES if page.name == "CONTRIBUTING.md" or page.parent.name == "docs"]
INVENTED = {"CHAT_WEBHOOK_URL", "chat_outbox"}
"""Identifiers of the examples in CONTRIBUTING.md."""

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_IDENTIFIER = re.compile(r"_?[A-Za-z]+(?:_[A-Za-z]+)+|_[A-Za-z]+|[A-Z][a-z]+(?:[A-Z][a-z]+)+")
_TOP_FOLDERS = ("portal", "daemon", "demo", "templates", "static", "migrations", "tests", "docs", ".ci")
_PATH = re.compile(rf"(?:{'|'.join(re.escape(name) for name in _TOP_FOLDERS)})(?:/[\w.*-]+)*/?")


def list_links(page: Path) -> Iterator[str]:
    """Yield the targets of the relative links of a page."""
    for target in _LINK.findall(page.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            yield target


def list_named_paths(page: Path) -> Iterator[str]:
    """Yield the paths of this project that a page names as code. Placeholders in angle brackets are left out."""
    for code in _CODE.findall(page.read_text()):
        if _PATH.fullmatch(code):
            yield code


def slugify(heading: str) -> str:
    """Return the anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def is_broken(page: Path, link: str) -> bool:
    """Return whether the file or the heading that a link points to does not exist."""
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return True
    headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if anchor else []
    return bool(anchor) and anchor not in {slugify(heading) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    assert [link for link in list_links(page) if is_broken(page, link)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_paths_exist(page: Path) -> None:
    assert [path for path in list_named_paths(page) if not (ROOT / path).exists()] == []


def test_every_page_of_the_documentation_is_in_its_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in list_links(index)}
    assert [page.name for page in (ROOT / "docs").glob("*.md") if page != index and page not in linked] == []


def test_every_rule_names_a_file_and_a_test() -> None:
    rows = [line.split("|")[1:-1] for line in RULES.read_text().splitlines() if line.startswith("| ")]
    rules = [row for row in rows if row[0].strip() != "Rule"]
    assert len(rules) >= MIN_RULES
    for rule, file, test in rules:
        paths = [_LINK.findall(cell) for cell in (file, test)]
        assert [len(links) for links in paths] == [1, 1], rule
        assert paths[1][0].startswith("../tests/"), rule
        assert f"`{paths[0][0].removeprefix('../')}`" in file, rule
        assert f"`{paths[1][0].removeprefix('../')}`" in test, rule
    names = [row[0].strip() for row in rules]
    assert len(names) == len(set(names))


def test_named_identifiers_exist_in_the_code() -> None:
    sources = [
        path
        for folder in ("portal", "daemon", "demo", "tests", "migrations")
        for path in (ROOT / folder).rglob("*.py")
    ]
    words = {word for path in sources if path != Path(__file__) for word in re.findall(r"\w+", path.read_text())}
    named = {
        code for page in CONTRIBUTOR_PAGES for code in _CODE.findall(page.read_text()) if _IDENTIFIER.fullmatch(code)
    }
    assert len(named) > 20
    assert named - words <= INVENTED <= named


def test_named_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [page.read_text() for page in PAGES]
    code = [part for text in texts for part in [*_CODE.findall(text), *re.findall(r"^make .*$", text, re.MULTILINE)]]
    named = {match[1] for part in code if (match := re.match(r"make ([a-z-]+)", part))}
    assert len(named) > 5
    assert named - targets == set()


def test_every_setting_is_in_the_readme() -> None:
    read = set(
        re.findall(r'(?:env\.\w+\(|_seconds\(env, )"([A-Z_]+)"', (ROOT / "portal" / "settings.py").read_text())
    )
    readme = (ROOT / "README.md").read_text()
    assert len(read) > 20
    assert {name for name in read if f"`{name}`" not in readme} == set()


def test_broken_links_and_paths_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "[a](missing.md) [b](#nowhere) [c](https://example.com) `portal/missing.py` `portal/<new>.py`\n# Here\n"
    )
    assert [link for link in list_links(page) if is_broken(page, link)] == ["missing.md", "#nowhere"]
    assert list(list_named_paths(page)) == ["portal/missing.py"]
