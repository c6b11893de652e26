"""The user-facing changelog: what customers read, and what they never read."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.registry.changelog_format import parse_changelog
from daemon.upstream.changelog.changes import to_changes
from daemon.upstream.changelog.commits import Commit, parse
from daemon.upstream.changelog.release_notes import ReleaseNotes, collect, write_release_notes
from daemon.upstream.scan.hosted_mode import load

CORPUS = [
    tuple(line.split("\t", 2))
    for line in (Path(__file__).parent / "subjects.tsv").read_text().splitlines()
    if line.strip()
]
CONTEXT = load(None)

# Written independently of the product's lists: stems of the excluded subjects, as a reader would recognize them.
FORBIDDEN = re.compile(
    r"adapter|openai|anthropic|\bclaude|\bgpt|\bmodels?\b|\bllms?\b|thinking|\befforts?\b|reasoning|"
    r"runtime|\brun[ _-]?time\b|"
    r"heart[ _-]?beat|api[ _-]?keys?\b|\bproviders?\b|credential|\bsecrets?\b|\bclis?\b|"
    r"command[ _-]line|\bterminals?\b|"
    r"docker|kubernetes|\bk8s\b|\bcontainers?\b|deploy|\bhosted|\bhosting\b|self[ _-]?host|infrastructure|postgres|"
    r"\bservers?\b|\benv\b|environment[ _-]variable|\bdatabases?\b|\bports?\b|\binvites?\b|invitation|"
    r"invite[ _-]?link|"
    r"company[ _-]?settings|join[ _-]?requests?|board[ _-]?claim|instance[ _-]?settings"
)


def commit(message: str, number: int = 1, parents: int = 1) -> Commit:
    """A commit with a message."""
    return parse(f"{number:040x}", [f"{parent:040x}" for parent in range(parents)], "Uma", message)


def notes_of(*messages: str) -> ReleaseNotes:
    """Release notes of commits, oldest first."""
    found = [(commit(message, number), ()) for number, message in enumerate(messages, 1)]
    return write_release_notes(to_changes(found), CONTEXT)


def items_of(*messages: str) -> dict[str, tuple[str, ...]]:
    """Items by section."""
    return dict(notes_of(*messages).sections)


def as_a_reader_sees(text: str) -> str:
    """The text in lower case, with camelCase taken apart, without invisible characters."""
    visible = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", visible).lower()


def test_the_corpus_is_large_enough() -> None:
    assert len(CORPUS) >= 300
    assert len([section for section, _, _ in CORPUS if section == "-"]) >= 100


@pytest.mark.parametrize(("section", "item", "subject"), CORPUS, ids=[subject for *_, subject in CORPUS])
def test_a_subject_becomes_the_expected_item(section: str, item: str, subject: str) -> None:
    assert items_of(subject) == ({} if section == "-" else {section: (item,)})


WORDS = st.sampled_from([
    "add", "fix", "improve", "show", "the", "a", "dialog", "list", "adapter", "adapters", "adapterType",
    "ADAPTER_OPTIONS", "model", "models", "ModelSelect", "thinking", "effort", "thinkingEffort", "run-time",
    "runtime", "heartbeat", "heart-beat", "API", "key", "apiKey", "provider", "cli", "CLI", "command", "line",
    "docker", "Dockerfile", "container", "deploy", "deployment", "self", "host", "self-hosted", "selfHosting",
    "hosted", "invite", "inviteLink", "invite_link", "port", "server", "env", "database", "environment",
    "variable", "-", "_", "/", ".", "`", "(", ")", "#", "@", ":", "!", "\u200b", "\xad", "of", "for", "to",
    "secret", "\uff21dapter", "claude", "GPT-5", "Company", "Settings", "company-settings", "board", "claim",
    "join", "requests", "in", "inbox", "is", "shown", "twice",
])  # fmt: skip
SUBJECTS = st.builds(
    lambda type_, words, glue: (
        type_ + (glue.join(words) if glue != "camelCase" else "".join(map(str.capitalize, words)))
    ),
    st.sampled_from(["feat: ", "fix: ", "feat(ui)!: ", "perf: ", "", "Fix ", "Add ", "fix: bug where "]),
    st.lists(WORDS, min_size=1, max_size=7),
    st.sampled_from([" ", " ", "camelCase", "_", "-", " \u200b"]),
)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(subject=st.one_of(SUBJECTS, st.text(max_size=80).map("feat: {}".format)), body=st.text(max_size=40))
@example(subject="feat: show adapter`Type` in list", body="")
@example(subject="feat: list of heart\u00adbeats per agent", body="")
@example(subject="feat: show API_key field", body="")
@example(subject="feat: show heart #12 beat in list", body="")
@example(subject="feat: show run `a.ts` time in list", body="")
@example(subject="feat: self\u200b-hosted badge on page", body="")
@example(subject="fix: thinking#12effort level shown", body="")
def test_no_item_contains_an_excluded_word(subject: str, body: str) -> None:
    for _, items in notes_of(f"{subject}\n\n{body}").sections:
        for item in items:
            assert not FORBIDDEN.search(as_a_reader_sees(item)), item


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(SUBJECTS, st.text(max_size=60)), max_size=6))
def test_the_document_has_the_shape_of_the_contract(messages: list[str]) -> None:
    document = json.loads(json.dumps(notes_of(*messages).document("2026-01-31", "2026-01-31")))
    assert set(document) == {"version", "date", "sections"}
    titles = [section["title"] for section in document["sections"]]
    assert titles == [title for title in ("New", "Improved", "Fixed") if title in titles]
    for section in document["sections"]:
        assert set(section) == {"title", "items"}
        assert section["items"]
        assert all(item == " ".join(item.split()) and item.isprintable() and item for item in section["items"])


def test_the_same_commits_give_the_same_notes() -> None:
    messages = [subject for *_, subject in CORPUS]
    assert notes_of(*messages) == notes_of(*messages)


def test_an_item_appears_once_and_in_the_first_section() -> None:
    messages = ("fix: dark theme for the board", "feat: dark theme for the board", "feat: Dark Theme for board (#12)")
    assert items_of(*messages) == {"New": ("Dark theme for the board",)}


def test_a_revert_cancels_the_change_and_says_nothing_itself() -> None:
    assert (
        items_of(
            "feat: dark theme for the board",
            f'Revert "feat: dark theme for the board"\n\nThis reverts commit {1:040x}.',
        )
        == {}
    )
    assert items_of("feat: dark theme for the board (#3)", 'Revert "feat: dark theme for the board (#3)" (#4)') == {}


def test_a_reverted_revert_brings_the_change_back() -> None:
    messages = (
        "feat: dark theme for the board",
        'Revert "feat: dark theme for the board"',
        'Revert "Revert "feat: dark theme for the board""',
    )
    assert items_of(*messages) == {"New": ("Dark theme for the board",)}
    assert items_of(*messages[:2], 'Reapply "feat: dark theme for the board"') == {
        "New": ("Dark theme for the board",)
    }


def test_a_revert_takes_back_only_the_change_it_names() -> None:
    messages = (
        "feat: dark theme for the board",
        "feat: light theme for the board",
        'Revert "feat: light theme for the board"',
    )
    assert items_of(*messages) == {"New": ("Dark theme for the board",)}


def test_a_merged_pull_request_is_one_item_with_its_title() -> None:
    merge = commit("Merge pull request #7 from uma/inbox\n\nfeat: add unread filter to the inbox", 9, parents=2)
    parts = [commit("wip", 2), commit("feat: filter prototype of something", 3)]
    notes = write_release_notes(to_changes([(merge, parts)]), CONTEXT)
    assert notes.sections == (("New", ("Unread filter for the inbox",)),)


def test_a_pull_request_without_a_type_takes_the_kind_of_its_commits() -> None:
    merge = commit("Merge pull request #7 from uma/inbox\n\nUnread filter of the inbox", 9, parents=2)
    notes = write_release_notes(to_changes([(merge, [commit("wip", 2), commit("feat: filter", 3)])]), CONTEXT)
    assert notes.sections == (("New", ("Unread filter of the inbox",)),)


@pytest.mark.parametrize(
    "message",
    [
        "Merge pull request 'fix: cards jump while dragging' (#12) from uma/cards into main",
        "Merge branch 'cards' into 'main'\n\nfix: cards jump while dragging\n\nSee merge request acme/bot!12",
        "Merged in cards (pull request #12)\n\nfix: cards jump while dragging",
        "Merge pull request #12 from uma/cards\n\nfix: cards jump while dragging",
        "fix: cards jump while dragging (#12)\n\n* wip\n* review",
    ],
    ids=["gitea", "gitlab", "bitbucket", "github", "squash"],
)
def test_the_title_of_a_pull_request_is_understood_from_every_forge(message: str) -> None:
    assert items_of(message) == {"Fixed": ("Cards jump while dragging",)}


@pytest.mark.parametrize("length", [10, 400, 5000])
def test_notes_of_a_large_sync_are_within_the_limits_of_a_changelog(length: int) -> None:
    items = [(title, f"{title} {number} " + "x" * length) for title in ("Fixed", "New") for number in range(90)]

    document = collect(items).document("2026-03-14", "2026-03-14")

    assert parse_changelog(json.dumps(document).encode()) == document
    # The items of the last section are left out first.
    assert document["sections"][0]["title"] == "New"
    assert len(document["sections"][0]["items"]) >= 40
