"""Pull requests by the REST APIs of GitHub, GitLab, Gitea and Forgejo. Used by `sync`.

References: https://docs.github.com/rest/pulls/pulls, https://docs.gitlab.com/api/merge_requests/,
https://docs.gitea.com/api (tag "repository"). Forgejo keeps Gitea's API.
"""

from __future__ import annotations

import base64
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from daemon.network.deadlines import Deadline, DeadlineExceeded
from daemon.network.http import DeadlineAdapter
from daemon.upstream.errors import SyncRefused, UpstreamError
from daemon.upstream.repository.git import redact

TIMEOUT_SECONDS = (10, 60)
DEADLINE_SECONDS = 90.0
"""Time limit of a request with its complete answer. A timeout starts again with each byte."""
ATTEMPTS = 4
LONGEST_WAIT_SECONDS = 300.0
_PAGE_SIZE = 50
_PAGES = 20
_SCP_LIKE = re.compile(r"(?:[\w.-]+@)?(?P<host>[\w.-]+):(?!//)(?P<path>.+)")
_API_PATHS = {"github": "/api/v3", "gitlab": "/api/v4", "gitea": "/api/v1"}
_MESSAGE_LENGTH = 300


class ForgeFailed(UpstreamError):
    """The forge refused the request or could not be reached. The message holds its words, never the token."""


class _TryAgain(Exception):
    """A failure that may pass.

    Args:
        problem: What happened.
        wait_seconds: How long the forge asked to wait, or None.
    """

    def __init__(self, problem: str, wait_seconds: float | None = None) -> None:
        super().__init__(problem)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class ForgeSettings:
    """What the operator configured.

    Attributes:
        token: Token with the right to open pull requests.
        kind: ``github``, ``gitlab`` or ``gitea`` (also for Forgejo), or None to derive it from origin's URL.
        api_url: Base of the API, or None to derive it from origin's URL.
    """

    token: str = field(repr=False)
    kind: str | None = None
    api_url: str | None = None


@dataclass(frozen=True)
class Repository:
    """A repository at a forge.

    Attributes:
        kind: ``github``, ``gitlab`` or ``gitea``.
        api_url: Base of the API without a final slash.
        path: ``owner/name``; for GitLab with all groups.
    """

    kind: str
    api_url: str
    path: str


@dataclass(frozen=True)
class PullRequest:
    """What to propose."""

    title: str
    body: str
    head: str
    base: str


@dataclass(frozen=True)
class OpenPullRequest:
    """A pull request at the forge.

    Attributes:
        number: Its number.
        url: Its page.
        created: Whether this run opened it.
    """

    number: int
    url: str
    created: bool


def repository_of(url: str, settings: ForgeSettings) -> Repository:
    """Find the forge and the repository of a remote.

    Args:
        url: URL of the remote origin.
        settings: What the operator configured.

    Raises:
        SyncRefused: if the URL names no forge that we know.
    """
    host, path = _host_and_path(url)
    kind = settings.kind or _kind_of(host)
    if kind not in _API_PATHS or not re.fullmatch(r"[^/\s]+(?:/[^/\s]+)+", path):
        raise SyncRefused(
            f"{redact(url)} is not a repository at a known forge. Set UPSTREAM_FORGE to github, gitlab or gitea, and "
            "UPSTREAM_FORGE_API to the base URL of its API."
        )
    if settings.api_url:
        api_url = settings.api_url.rstrip("/")
    elif host == "github.com":
        api_url = "https://api.github.com"
    else:
        api_url = f"https://{host}{_API_PATHS[kind]}"
    return Repository(kind, api_url, path)


def git_credentials(url: str, settings: ForgeSettings) -> Mapping[str, str]:
    """Return environment variables that let git use the token for an HTTPS remote. The token stays out of `ps`."""
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.username:
        return {}
    user = {"gitlab": "oauth2"}.get(settings.kind or _kind_of(parts.hostname or "") or "", "x-access-token")
    header = base64.b64encode(f"{user}:{settings.token}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.https://{parts.netloc}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {header}",
    }


def propose(
    repository: Repository, settings: ForgeSettings, wanted: PullRequest, sleep: Callable[[float], None] = time.sleep
) -> OpenPullRequest:
    """Open a pull request, or update the open one from the same branch.

    Failures that may pass are retried. Every attempt searches for the open pull request first, so that an answer that
    got lost on the way does not lead to a second one.

    Args:
        repository: Where.
        settings: With the token.
        wanted: What to propose.
        sleep: Waits the given seconds.

    Raises:
        ForgeFailed: if the forge refuses, or fails in every attempt.
    """
    with requests.Session() as session:
        session.mount("https://", DeadlineAdapter())
        session.mount("http://", DeadlineAdapter())
        client = _CLIENTS[repository.kind](session, repository, settings.token)
        attempt = 1
        while True:
            try:
                return client.open_or_update(wanted)
            except _TryAgain as problem:
                wait = problem.wait_seconds if problem.wait_seconds is not None else 2.0**attempt
                if attempt == ATTEMPTS or wait > LONGEST_WAIT_SECONDS:
                    raise ForgeFailed(f"{problem} Gave up after {attempt} attempts.") from problem
                sleep(wait)
                attempt += 1


class _Client(ABC):
    """The requests that the forges have in common."""

    number_key = "number"
    url_key = "html_url"
    update_method = "PATCH"

    def __init__(self, session: requests.Session, repository: Repository, token: str) -> None:
        self._session = session
        self._repository = repository
        # An authentication object keeps requests from reading ~/.netrc.
        session.auth = _Header(self.authorization(token))

    def open_or_update(self, wanted: PullRequest) -> OpenPullRequest:
        """Update the open pull request from the same branch, or open one."""
        existing = self.find_open(wanted)
        if existing is not None:
            number = int(existing[self.number_key])
            answer = self.request(self.update_method, f"{self.collection}/{number}", json=self.changes(wanted))
            return OpenPullRequest(number, str(answer[self.url_key]), created=False)
        answer = self.request("POST", self.collection, json=self.creation(wanted))
        return OpenPullRequest(int(answer[self.number_key]), str(answer[self.url_key]), created=True)

    @property
    @abstractmethod
    def collection(self) -> str:
        """Path of the repository's pull requests."""

    @abstractmethod
    def authorization(self, token: str) -> tuple[str, str]:
        """Name and value of the header with the token."""

    @abstractmethod
    def find_open(self, wanted: PullRequest) -> dict[str, Any] | None:
        """Return the open pull request from the same branch into the same branch."""

    def creation(self, wanted: PullRequest) -> dict[str, Any]:
        """Return what a new pull request consists of."""
        return {"title": wanted.title, "body": wanted.body, "head": wanted.head, "base": wanted.base}

    def changes(self, wanted: PullRequest) -> dict[str, Any]:
        """Return what is updated of an open one."""
        return {"title": wanted.title, "body": wanted.body}

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request and return the parsed answer.

        Raises:
            ForgeFailed: if the forge refuses.
            _TryAgain: for network failures, rate limits and failures of the server.
        """
        url = f"{self._repository.api_url}{path}"
        try:
            with Deadline(DEADLINE_SECONDS):
                answer = self._session.request(
                    method, url, timeout=TIMEOUT_SECONDS, allow_redirects=False, **arguments
                )
        except (requests.RequestException, DeadlineExceeded) as error:
            raise _TryAgain(
                f"The forge at {self._repository.api_url} cannot be reached ({type(error).__name__})."
            ) from None
        if answer.status_code in {429, 500, 502, 503, 504} or _is_rate_limited(answer):
            raise _TryAgain(f"The forge answered {answer.status_code}{_words(answer)}.", _wait_of(answer))
        if not 200 <= answer.status_code < 300:
            raise ForgeFailed(_refusal(answer, self._repository))
        try:
            return answer.json()
        except ValueError as error:
            raise ForgeFailed(f"The forge at {self._repository.api_url} did not answer with JSON.") from error


class _GitHub(_Client):
    @property
    def collection(self) -> str:
        return f"/repos/{self._repository.path}/pulls"

    def authorization(self, token: str) -> tuple[str, str]:
        self._session.headers.update({"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"})
        return "Authorization", f"Bearer {token}"

    def find_open(self, wanted: PullRequest) -> dict[str, Any] | None:
        owner = self._repository.path.split("/")[0]
        query = {"state": "open", "head": f"{owner}:{wanted.head}", "base": wanted.base}
        found = self.request("GET", self.collection, params=query)
        return next(iter(found), None)


class _GitLab(_Client):
    number_key = "iid"
    url_key = "web_url"
    update_method = "PUT"

    @property
    def collection(self) -> str:
        return f"/projects/{quote(self._repository.path, safe='')}/merge_requests"

    def authorization(self, token: str) -> tuple[str, str]:
        return "PRIVATE-TOKEN", token

    def find_open(self, wanted: PullRequest) -> dict[str, Any] | None:
        query = {"state": "opened", "source_branch": wanted.head, "target_branch": wanted.base}
        found = self.request("GET", self.collection, params=query)
        return next(iter(found), None)

    def creation(self, wanted: PullRequest) -> dict[str, Any]:
        return {**self.changes(wanted), "source_branch": wanted.head, "target_branch": wanted.base}

    def changes(self, wanted: PullRequest) -> dict[str, Any]:
        return {"title": wanted.title, "description": wanted.body}


class _Gitea(_Client):
    @property
    def collection(self) -> str:
        return f"/repos/{self._repository.path}/pulls"

    def authorization(self, token: str) -> tuple[str, str]:
        return "Authorization", f"token {token}"

    def find_open(self, wanted: PullRequest) -> dict[str, Any] | None:
        # Gitea's list cannot be filtered by branch.
        for page in range(1, _PAGES + 1):
            found = self.request(
                "GET",
                self.collection,
                params={"state": "open", "sort": "recentupdate", "limit": _PAGE_SIZE, "page": page},
            )
            for pull in found:
                if (pull["head"]["ref"], pull["base"]["ref"]) == (wanted.head, wanted.base):
                    return dict(pull)
            if not found:
                break
        return None


_CLIENTS: dict[str, type[_Client]] = {"github": _GitHub, "gitlab": _GitLab, "gitea": _Gitea}


class _Header(requests.auth.AuthBase):
    """Sets one header on every request."""

    def __init__(self, header: tuple[str, str]) -> None:
        self._name, self._value = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._name] = self._value
        return request


def _host_and_path(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    if parts.scheme in {"http", "https", "ssh", "git"} and parts.hostname:
        port = f":{parts.port}" if parts.scheme in {"http", "https"} and parts.port else ""
        host, path = f"{parts.hostname}{port}", parts.path
    elif match := _SCP_LIKE.fullmatch(url):
        host, path = match["host"], match["path"]
    else:
        host, path = "", ""
    return host.lower(), path.strip("/").removesuffix(".git")


def _kind_of(host: str) -> str | None:
    names = {"github": "github", "gitlab": "gitlab", "gitea": "gitea", "forgejo": "gitea", "codeberg": "gitea"}
    return next((kind for name, kind in names.items() if name in host), None)


def _is_rate_limited(answer: requests.Response) -> bool:
    """Return whether a 403 of GitHub means a rate limit."""
    if answer.status_code != 403:
        return False
    return "retry-after" in answer.headers or answer.headers.get("x-ratelimit-remaining") == "0"


def _wait_of(answer: requests.Response) -> float | None:
    """Return how many seconds the forge asks to wait, or None."""
    asked = answer.headers.get("retry-after", "")
    if asked.isdigit():
        return float(asked)
    if asked:
        try:
            return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
        except ValueError:
            return None
    reset = answer.headers.get("x-ratelimit-reset") or answer.headers.get("ratelimit-reset") or ""
    limited = "0" in {answer.headers.get("x-ratelimit-remaining"), answer.headers.get("ratelimit-remaining")}
    return max(0.0, float(reset) - time.time()) + 1 if limited and reset.isdigit() else None


def _refusal(answer: requests.Response, repository: Repository) -> str:
    causes = {
        401: "The token is not valid.",
        403: "The token does not have the right to open pull requests.",
        404: f"The repository {repository.path} does not exist, or the token does not have access to it.",
    }
    if 300 <= answer.status_code < 400:
        return f"The repository {repository.path} has moved. Update the URL of the remote origin."
    cause = causes.get(answer.status_code, "")
    return f"The forge answered {answer.status_code}{_words(answer)}. {cause}".strip()


def _words(answer: requests.Response) -> str:
    try:
        data = answer.json()
    except ValueError:
        return ""
    if not isinstance(data, dict):
        return ""
    told = [data.get("message") or data.get("error")]
    told += [error.get("message") for error in data.get("errors") or [] if isinstance(error, dict)]
    words = "; ".join(" ".join(str(part).split()) for part in told if part)[:_MESSAGE_LENGTH]
    return f": {words}" if words else ""
