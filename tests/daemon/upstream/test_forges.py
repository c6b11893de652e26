"""Pull requests at the played forges: opened once, updated, retried, refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.upstream.errors import SyncRefused
from daemon.upstream.publishing import forges
from daemon.upstream.publishing.forges import (
    ForgeFailed,
    ForgeSettings,
    PullRequest,
    Repository,
    git_credentials,
    propose,
    repository_of,
)
from tests.daemon.upstream.forge import TOKEN, Failure, Forge, running_forge
from tests.support.slow_peers import FILLER, Answer, slow_server

WANTED = PullRequest("Sync with upstream 2026-03-14", "- [ ] finding", "flotilla/upstream", "main")
API = {"github": "", "gitlab": "/api/v4", "gitea": "/api/v1"}
KINDS = pytest.mark.parametrize("kind", API)


@pytest.fixture
def forge() -> Iterator[Forge]:
    """A forge without pull requests."""
    with running_forge() as running:
        yield running


def repository(forge: Forge, kind: str) -> Repository:
    """The repository at the played forge."""
    return Repository(kind, forge.url + API[kind], "acme/bot")


@KINDS
def test_a_pull_request_is_opened_and_then_updated(forge: Forge, kind: str) -> None:
    first = propose(repository(forge, kind), ForgeSettings(TOKEN), WANTED)
    assert (first.number, first.created) == (1, True)
    assert first.url.startswith("https://forge.example/acme/bot/")
    newer = PullRequest("Sync with upstream 2026-03-15", "- [ ] other", WANTED.head, WANTED.base)
    second = propose(repository(forge, kind), ForgeSettings(TOKEN), newer)
    assert (second.number, second.created) == (1, False)
    assert [(pull["title"], pull["body"]) for pull in forge.pulls] == [(newer.title, newer.body)]


@KINDS
def test_other_and_closed_pull_requests_are_left_alone(forge: Forge, kind: str) -> None:
    for number in range(60):
        forge.add(f"feature-{number}")
    forge.add(WANTED.head, state="closed")
    created = propose(repository(forge, kind), ForgeSettings(TOKEN), WANTED)
    assert created.created
    assert [pull["title"] for pull in forge.pulls if pull["title"] != "Old"] == [WANTED.title]


def test_an_open_pull_request_on_a_later_page_is_found(forge: Forge) -> None:
    for number in range(60):
        forge.add(f"feature-{number}")
    forge.add(WANTED.head)
    assert propose(repository(forge, "gitea"), ForgeSettings(TOKEN), WANTED).number == 61


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"HTTP/1.1 200 OK\r\nX-Filler: ", FILLER),
        Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", FILLER),
    ],
    ids=["headers", "body"],
)
def test_a_forge_that_sends_one_byte_at_a_time_is_given_up(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forges, "DEADLINE_SECONDS", 0.2)
    with (
        slow_server(lambda _: answer) as address,
        pytest.raises(ForgeFailed, match=r"cannot be reached \(DeadlineExceeded\)\. Gave up after 4 attempts"),
    ):
        propose(Repository("github", f"http://{address}", "acme/bot"), ForgeSettings(TOKEN), WANTED, lambda _: None)


@KINDS
@pytest.mark.parametrize(
    ("failure", "wait"),
    [
        (Failure(429, {"Retry-After": "7"}), 7.0),
        (Failure(403, {"Retry-After": "60"}), 60.0),
        (Failure(502, body=b"<html>Bad gateway</html>"), 2.0),
        (Failure(0, close=True), 2.0),
    ],
    ids=["rate limit", "secondary rate limit", "bad gateway", "connection lost"],
)
def test_failures_that_pass_are_retried(forge: Forge, kind: str, failure: Failure, wait: float) -> None:
    forge.failures = [failure]
    waits: list[float] = []
    assert propose(repository(forge, kind), ForgeSettings(TOKEN), WANTED, waits.append).created
    assert waits == [wait]


def test_the_end_of_a_rate_limit_is_awaited(forge: Forge) -> None:
    forge.failures = [Failure(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 30)})]
    waits: list[float] = []
    propose(repository(forge, "github"), ForgeSettings(TOKEN), WANTED, waits.append)
    assert len(waits) == 1
    assert 0 < waits[0] <= 32


def test_an_answer_that_got_lost_does_not_open_a_second_one(forge: Forge) -> None:
    forge.failures = [Failure(200, body=b"[]"), Failure(0, close=True)]
    opened = propose(repository(forge, "github"), ForgeSettings(TOKEN), WANTED, lambda _: None)
    assert [method for method, _ in forge.requests] == ["GET", "POST", "GET", "PATCH"]
    assert (opened.number, opened.created) == (1, False)
    assert len(forge.pulls) == 1


def test_a_forge_that_keeps_failing_is_reported(forge: Forge) -> None:
    forge.failures = [Failure(500)] * 10
    waits: list[float] = []
    with pytest.raises(ForgeFailed, match=r"answered 500: Something is wrong.*Gave up after 4 attempts"):
        propose(repository(forge, "github"), ForgeSettings(TOKEN), WANTED, waits.append)
    assert waits == [2.0, 4.0, 8.0]


def test_a_long_rate_limit_is_reported_at_once(forge: Forge) -> None:
    forge.failures = [Failure(429, {"Retry-After": "3600"})]
    with pytest.raises(ForgeFailed, match="answered 429"):
        propose(repository(forge, "github"), ForgeSettings(TOKEN), WANTED, lambda _: pytest.fail("waited"))


def test_an_unreachable_forge_is_reported_without_the_token() -> None:
    nowhere = Repository("github", "http://127.0.0.1:1", "acme/bot")
    with pytest.raises(ForgeFailed, match="cannot be reached") as caught:
        propose(nowhere, ForgeSettings(TOKEN), WANTED, lambda _: None)
    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(ForgeSettings(TOKEN))


@KINDS
@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Failure(401), "token is not valid"),
        (Failure(403), "does not have the right"),
        (Failure(404), "does not exist"),
        (Failure(301, {"Location": "https://elsewhere.example/"}), "has moved"),
        (Failure(200, body=b"<html>Sign in</html>"), "did not answer with JSON"),
    ],
)
def test_a_refusal_is_reported_once(forge: Forge, kind: str, failure: Failure, words: str) -> None:
    forge.failures = [failure]
    with pytest.raises(ForgeFailed, match=words):
        propose(repository(forge, kind), ForgeSettings(TOKEN), WANTED, lambda _: pytest.fail("waited"))
    assert len(forge.requests) == 1


def test_netrc_does_not_replace_the_token(forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert propose(repository(forge, "github"), ForgeSettings(TOKEN), WANTED).created


@pytest.mark.parametrize(
    ("url", "kind", "api", "path"),
    [
        ("https://github.com/acme/bot.git", "github", "https://api.github.com", "acme/bot"),
        ("git@github.com:acme/bot.git", "github", "https://api.github.com", "acme/bot"),
        ("ssh://git@github.com/acme/bot", "github", "https://api.github.com", "acme/bot"),
        ("https://user:secret@github.acme.com/team/bot/", "github", "https://github.acme.com/api/v3", "team/bot"),
        ("https://gitlab.com/acme/group/bot.git", "gitlab", "https://gitlab.com/api/v4", "acme/group/bot"),
        ("ssh://git@gitlab.acme.com:2222/acme/bot.git", "gitlab", "https://gitlab.acme.com/api/v4", "acme/bot"),
        ("https://gitea.acme.com:3000/acme/bot", "gitea", "https://gitea.acme.com:3000/api/v1", "acme/bot"),
        ("git@codeberg.org:acme/bot.git", "gitea", "https://codeberg.org/api/v1", "acme/bot"),
    ],
)
def test_the_forge_is_derived_from_the_url(url: str, kind: str, api: str, path: str) -> None:
    assert repository_of(url, ForgeSettings(TOKEN)) == Repository(kind, api, path)


def test_an_unknown_forge_needs_settings() -> None:
    with pytest.raises(SyncRefused, match="UPSTREAM_FORGE") as caught:
        repository_of("https://user:secret@git.acme.com/acme/bot", ForgeSettings(TOKEN))
    assert "secret" not in str(caught.value)
    settings = ForgeSettings(TOKEN, "gitea", "https://git.acme.com/git/api/v1/")
    expected = Repository("gitea", "https://git.acme.com/git/api/v1", "acme/bot")
    assert repository_of("https://git.acme.com/acme/bot", settings) == expected
    with pytest.raises(SyncRefused):
        repository_of("/srv/git/bot.git", ForgeSettings(TOKEN))


def test_git_uses_the_token_for_https_only() -> None:
    credentials = git_credentials("https://github.com/acme/bot.git", ForgeSettings(TOKEN))
    assert credentials["GIT_CONFIG_KEY_0"] == "http.https://github.com/.extraHeader"
    assert TOKEN not in "".join(credentials.values())
    for url in ("http://github.com/acme/bot", "git@github.com:acme/bot.git", "https://a:b@github.com/acme/bot"):
        assert git_credentials(url, ForgeSettings(TOKEN)) == {}
