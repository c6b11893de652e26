"""Talking to a node's Docker engine: every call has a time limit, and an engine that does not answer has one error.

Only workers and the command line reach engines. Refusals of the engine keep the library's errors (`NotFound`,
`APIError`); tell them apart by `status_of`, never by their text, which differs between versions.
"""

from collections.abc import Iterator
from typing import Any
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
from docker.utils import version_lt

from daemon.errors import OperationFailed
from portal.models.node import Node

CONNECT_SECONDS = 5  # a node that is gone says nothing, and whoever asks holds up others meanwhile
CALL_SECONDS = 60
STREAM_SECONDS = 300  # unpacking a large layer may be silent for minutes
# Later versions no longer report which MAC address was asked for, only the one in use.
NEWEST_API = "1.51"

_BROKEN_CONNECTION = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
)


class EngineUnreachable(OperationFailed):
    """The engine does not answer, or stopped answering in the middle; what was asked may still happen."""

    transient = True


class PullFailed(OperationFailed):
    """The engine could not pull an image; transient unless the registry refused or has no such image."""


class Engine(docker.APIClient):
    """A client that never waits for ever and raises `EngineUnreachable` for a connection that fails."""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request.

        The library asks for no time limit where an answer may take long (pull, wait): these get one of silence.
        Being connected never takes long, whatever is asked then.

        Raises:
            EngineUnreachable: no connection, or no answer in time.
        """
        limit = kwargs.get("timeout") or STREAM_SECONDS
        # A redirect comes here again, with both.
        kwargs["timeout"] = limit if isinstance(limit, tuple) else (CONNECT_SECONDS, limit)
        try:
            return super().send(request, **kwargs)
        except _BROKEN_CONNECTION as error:
            raise EngineUnreachable(f"The Docker engine did not answer: {error}") from error


def connect(node: Node, call_seconds: int | None = None) -> docker.APIClient:
    """Connect to the engine of a node; close the client when done.

    Args:
        node: the node.
        call_seconds: how long to wait for the answer to each call, the first one included; `CALL_SECONDS` unless
            given.

    Raises:
        EngineUnreachable: it does not answer, or its certificates cannot be read.
    """
    try:
        client = _client(node, "auto", call_seconds)
        if version_lt(NEWEST_API, client.api_version):
            client.close()
            client = _client(node, NEWEST_API, call_seconds)
    except (DockerException, OSError) as error:
        raise EngineUnreachable(
            f"The Docker engine of node {node.name} at {node.docker_url} does not answer: {error}"
            " Check that it runs and that this worker may reach it."
        ) from error
    return client


def _client(node: Node, version: str, call_seconds: int | None) -> Engine:
    return Engine(base_url=node.docker_url, version=version, timeout=call_seconds or CALL_SECONDS, tls=_tls(node))


def _tls(node: Node) -> TLSConfig | bool:
    if node.tls is None:
        return False
    return TLSConfig(
        client_cert=(node.tls["cert"], node.tls["key"]) if "cert" in node.tls else None,
        ca_cert=node.tls.get("ca"),
        verify=True,
    )


def status_of(error: Exception) -> int | None:
    """Return the HTTP status with which the engine refused, None when the error is no refusal of the engine."""
    return error.status_code if isinstance(error, APIError) else None


def pull(engine: docker.APIClient, image: str, auth: dict[str, str] | None) -> None:
    """Pull an image and make sure that it is there.

    Args:
        engine: the engine that pulls.
        image: `repository@digest`.
        auth: `username` and `password` for its registry; None pulls anonymously.

    Raises:
        PullFailed: the registry or the engine refused, or the transfer broke.
        EngineUnreachable: the engine itself stopped answering.
    """
    try:
        # A pull that fails on the way still has status 200; only the stream says so. It is read to its end either
        # way, or its connection would stay open.
        errors = [message["error"] for message in _pull_messages(engine, image, auth) if "error" in message]
        if errors:
            raise PullFailed(f"Pulling {image} failed: {errors[0]}", transient=True)
        engine.inspect_image(image)  # type: ignore[no-untyped-call]
    except ImageNotFound as error:
        raise PullFailed(f"Pulling {image} failed: {error.explanation}") from error
    except APIError as error:
        raise PullFailed(
            f"Pulling {image} failed: {error.explanation}", transient=not error.is_client_error()
        ) from error


def _pull_messages(engine: docker.APIClient, image: str, auth: dict[str, str] | None) -> Iterator[dict[str, Any]]:
    try:
        # With None the library would use whatever credentials lie in this user's home.
        yield from engine.pull(image, stream=True, decode=True, auth_config=auth or {})
    except (*_BROKEN_CONNECTION, StreamParseError) as error:
        if isinstance(error, APIError):
            raise
        raise EngineUnreachable(f"The Docker engine stopped answering while it pulled {image}: {error}") from error


def connect_network(engine: docker.APIClient, container: str, network: str, endpoint: dict[str, Any]) -> None:
    """Connect a container to a network with an endpoint's full description.

    The library's own call knows only some of the endpoint's fields.

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
