"""Connections to the Docker engines of nodes, with a time limit for every call. Used by jobs and commands.

An engine that does not answer raises `EngineUnreachable`. An engine that refuses a call raises the library's errors
(`NotFound`, `APIError`). Tell them apart by their status, never by their text, which differs between versions.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import quote

import docker
import requests
import urllib3
from docker.errors import (
    APIError,
    DockerException,
    ImageNotFound,
    StreamParseError,
    create_api_error_from_http_exception,
)
from docker.tls import TLSConfig
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool
from docker.utils import version_lt
from requests.adapters import BaseAdapter

from daemon.engine.port_conflicts import explain_port_conflict
from daemon.errors import EngineTrouble, OperationFailed
from daemon.network.deadlines import Deadline, DeadlineExceeded, watch
from daemon.network.http import DeadlineAdapter
from portal.models.node import Node
from portal.rules.allowlist import ImageNotAllowed

CONNECT_SECONDS = 5
"""Time limit for connecting. A node that is switched off would otherwise block its worker for minutes."""
CALL_SECONDS = 60
STREAM_SECONDS = 300
"""Time limit of each message of a stream: unpacking a large layer takes minutes without a message."""
PULL_SECONDS = 1800
"""Time limit of a pull, because an engine reports progress even when a registry sends one byte at a time. The engine
keeps complete layers, so the next attempt continues from there."""
# Later versions report only the MAC address in use, no longer the one that was configured.
NEWEST_API = "1.51"

_BROKEN_CONNECTION = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
)


class EngineUnreachable(EngineTrouble):
    """The engine does not answer, is too slow, or stopped answering. It may still carry out the call."""


class MalformedAnswer(OperationFailed):
    """The engine's answer does not have the form that the Docker API promises."""


class PullFailed(OperationFailed):
    """The engine could not pull an image. Transient unless the registry refused or lacks the image."""


class Engine(docker.APIClient):
    """A client whose every call has a time limit and whose connection errors are all `EngineUnreachable`.

    Proxies, certificates and passwords that the environment names for web requests do not apply to engines: a proxy
    would see and could change every call.
    """

    def mount(self, prefix: str | bytes, adapter: BaseAdapter) -> None:
        """Mount an adapter like the library's, but with connections that obey deadlines."""
        if isinstance(adapter, UnixHTTPAdapter):
            super().mount(prefix, _UnixAdapter(f"http+unix://{adapter.socket_path}", adapter.timeout))
        else:
            super().mount(prefix, DeadlineAdapter())

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request without the proxies, certificates and passwords of the environment."""
        self.trust_env = False  # here, because the constructor sets it and sends the first request
        return super().request(*arguments, **options)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request, and read the answer unless it is a stream, within a time limit.

        The library sets no limit where an answer may take long (pull, wait). Those calls get `STREAM_SECONDS`.
        Connecting is always limited to `CONNECT_SECONDS`. The reader of a stream sets the limits of its messages.

        Raises:
            EngineUnreachable: no connection, or no complete answer in time.
        """
        limit = kwargs.get("timeout") or STREAM_SECONDS
        # The library calls this method again for a redirect, then with both limits.
        kwargs["timeout"] = limit if isinstance(limit, tuple) else (CONNECT_SECONDS, limit)
        try:
            with Deadline(kwargs["timeout"][1]):
                return super().send(request, **kwargs)
        except DeadlineExceeded as error:
            raise EngineUnreachable(f"The Docker engine did not answer completely: the call {error}") from error
        except _BROKEN_CONNECTION as error:
            raise EngineUnreachable(f"The Docker engine did not answer: {error}") from error

    def _result(self, response: requests.Response, *arguments: Any, **options: Any) -> Any:
        """Decode an answer.

        Raises:
            EngineUnreachable: the answer was cut off, or is not JSON.
        """
        try:
            return super()._result(response, *arguments, **options)  # type: ignore[misc]
        except requests.JSONDecodeError as error:
            raise EngineUnreachable("The Docker engine sent an answer that is not complete JSON.") from error


class _UnixConnection(UnixHTTPConnection):
    def connect(self) -> None:
        # The library's own method leaves the socket open when no engine listens.
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(self.timeout)
            connection.connect(self.unix_socket)
        except OSError:
            connection.close()
            raise
        self.sock = connection
        watch(connection)

    def putrequest(self, *arguments: Any, **options: Any) -> None:
        if self.sock is not None:  # kept alive after an earlier call, with an earlier deadline
            watch(self.sock)
        super().putrequest(*arguments, **options)


class _UnixPool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        return _UnixConnection(self.base_url, self.socket_path, cast("Any", self.timeout))


class _UnixAdapter(UnixHTTPAdapter):
    """The library's adapter for a Unix socket, with connections that obey deadlines."""

    def get_connection(self, url: str | bytes, proxies: Any = None) -> UnixHTTPConnectionPool:
        with self.pools.lock:
            pool = self.pools.get(url)
            if pool is None:
                pool = self.pools[url] = _UnixPool(
                    str(url), self.socket_path, self.timeout, maxsize=self.max_pool_size
                )
        return pool


@contextmanager
def open_engine(node: Node, call_seconds: int | None = None) -> Iterator[docker.APIClient]:
    """Connect to the engine of a node for the duration of a `with` block.

    Args:
        node: the node.
        call_seconds: time limit of each call in seconds, including the first one, which reads the version;
            `CALL_SECONDS` by default. Holders of a bot's lease pass `bot_lease.CALL_SECONDS`.

    Raises:
        EngineUnreachable: the engine does not answer, or its certificates cannot be read.
    """
    client = _connect(node, call_seconds)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def rejecting_malformed_answers(node: Node) -> Iterator[None]:
    """Report answers without the promised form as an error of the engine, in code that only reads answers.

    Raises:
        MalformedAnswer: an answer has another type, lacks a key, or is not JSON.
    """
    try:
        yield
    # AttributeError: the library called a method of a list or a number, as if it was an object.
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise MalformedAnswer(
            f"An answer of the Docker engine of node {node.name} does not have the expected form"
            f" ({type(error).__name__}). Check that a Docker engine runs at {node.docker_url}."
        ) from error


def _connect(node: Node, call_seconds: int | None) -> Engine:
    try:
        client = _create_client(node, "auto", call_seconds)
        if version_lt(NEWEST_API, client.api_version):
            client.close()
            client = _create_client(node, NEWEST_API, call_seconds)
    except (DockerException, OSError, ValueError) as error:  # ValueError: the version is not a number
        raise EngineUnreachable(
            f"The Docker engine of node {node.name} at {node.docker_url} does not answer: {error}"
            " Check that the engine runs and that this machine can reach it."
        ) from error
    return client


def _create_client(node: Node, version: str, call_seconds: int | None) -> Engine:
    return Engine(base_url=node.docker_url, version=version, timeout=call_seconds or CALL_SECONDS, tls=_tls(node))


def _tls(node: Node) -> TLSConfig | bool:
    if node.tls is None:
        return False
    return TLSConfig(
        client_cert=(node.tls["cert"], node.tls["key"]) if "cert" in node.tls else None,
        ca_cert=node.tls.get("ca"),
        verify=True,
    )


def describe_error(error: Exception) -> str:
    """Describe an error for an operator. Of unknown errors only the type is shown: their text may contain secrets."""
    if isinstance(error, (OperationFailed, ImageNotAllowed)):
        return str(error)
    if isinstance(error, DockerException):
        return f"The engine refused: {explain_port_conflict(str(getattr(error, 'explanation', None) or error))}"
    return f"Error in Flotilla ({type(error).__name__}); the worker's log has the details"


def pull(engine: docker.APIClient, image: str, auth: dict[str, str] | None) -> dict[str, Any]:
    """Pull an image, verify that the engine has it, and return the engine's description of it.

    Args:
        engine: the engine that pulls.
        image: `repository@digest`.
        auth: `username` and `password` for its registry; None pulls anonymously.

    Raises:
        PullFailed: the registry or the engine refused, or the transfer broke.
        EngineUnreachable: the engine stopped answering.
    """
    try:
        errors = _pull_and_read_errors(engine, image, auth)
        if errors:
            raise PullFailed(f"Pulling {image} failed: {errors[0]}", transient=True)
        found: dict[str, Any] = engine.inspect_image(image)  # type: ignore[no-untyped-call]
    except ImageNotFound as error:
        raise PullFailed(f"Pulling {image} failed: {error.explanation}") from error
    except APIError as error:
        raise PullFailed(
            f"Pulling {image} failed: {error.explanation}", transient=not error.is_client_error()
        ) from error
    return found


def _pull_and_read_errors(engine: docker.APIClient, image: str, auth: dict[str, str] | None) -> list[str]:
    """Pull an image and return the errors in the stream: a pull that fails midway has status 200.

    The stream is read to its end, because its connection stays open otherwise.
    """
    errors = []
    with limit_stream(PULL_SECONDS, f"the pull of {image}"), Deadline(STREAM_SECONDS) as next_message:
        # With None the library would use the credentials in this user's home folder.
        for message in engine.pull(image, stream=True, decode=True, auth_config=auth or {}):
            next_message.restart()
            if "error" in message:
                errors.append(str(message["error"]))
    return errors


@contextmanager
def limit_stream(seconds: float, action: str) -> Iterator[None]:
    """Limit the time for reading a stream of the engine.

    Args:
        seconds: time limit for the whole stream.
        action: what the stream is for; completes the sentence "The engine stopped answering during …".

    Raises:
        EngineUnreachable: the time is over, or the connection broke.
    """
    try:
        with Deadline(seconds):
            yield
    except (*_BROKEN_CONNECTION, DeadlineExceeded, StreamParseError) as error:
        if isinstance(error, APIError):
            raise
        raise EngineUnreachable(f"The Docker engine stopped answering during {action}: {error}") from error


def connect_network(engine: docker.APIClient, container: str, network: str, endpoint: dict[str, Any]) -> None:
    """Connect a container to a network with the full description of the endpoint.

    The library's own method supports only some of the endpoint's fields.

    Raises:
        APIError: the engine refused.
    """
    response = engine.post(
        f"{engine.base_url}/v{engine.api_version}/networks/{quote(network, safe='')}/connect",
        json={"Container": container, "EndpointConfig": endpoint},
        timeout=engine.timeout,
    )
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        raise create_api_error_from_http_exception(error) from error
