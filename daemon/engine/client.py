"""Connections to the Docker engines of nodes, with a time limit for every call. Used by jobs and commands.

An engine that does not answer raises `EngineUnreachable`. An engine that refuses a call raises the library's errors
(`NotFound`, `APIError`). Tell them apart by their status, never by their text, which differs between versions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
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

CONNECT_SECONDS = 5
"""Time limit for connecting. A node that is switched off would otherwise block its worker for minutes."""
CALL_SECONDS = 60
STREAM_SECONDS = 300
"""Longest silence within a stream: unpacking a large layer takes minutes without a message."""
# Later versions report only the MAC address in use, no longer the one that was configured.
NEWEST_API = "1.51"

_BROKEN_CONNECTION = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
)


class EngineUnreachable(OperationFailed):
    """The engine does not answer, or stopped answering during a call. It may still carry out that call."""

    transient = True


class PullFailed(OperationFailed):
    """The engine could not pull an image. Transient unless the registry refused or lacks the image."""


class Engine(docker.APIClient):
    """A client whose every call has a time limit and whose connection errors are all `EngineUnreachable`."""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request with a time limit.

        The library sets no limit where an answer may take long (pull, wait). Those calls get `STREAM_SECONDS` as the
        limit of silence. Connecting is always limited to `CONNECT_SECONDS`.

        Raises:
            EngineUnreachable: no connection, or no answer in time.
        """
        limit = kwargs.get("timeout") or STREAM_SECONDS
        # The library calls this method again for a redirect, then with both limits.
        kwargs["timeout"] = limit if isinstance(limit, tuple) else (CONNECT_SECONDS, limit)
        try:
            return super().send(request, **kwargs)
        except _BROKEN_CONNECTION as error:
            raise EngineUnreachable(f"The Docker engine did not answer: {error}") from error


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


def _connect(node: Node, call_seconds: int | None) -> Engine:
    try:
        client = _create_client(node, "auto", call_seconds)
        if version_lt(NEWEST_API, client.api_version):
            client.close()
            client = _create_client(node, NEWEST_API, call_seconds)
    except (DockerException, OSError) as error:
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


def status_of(error: Exception) -> int | None:
    """Return the HTTP status of a refusal by the engine, or None for any other error."""
    return error.status_code if isinstance(error, APIError) else None


def pull(engine: docker.APIClient, image: str, auth: dict[str, str] | None) -> None:
    """Pull an image and verify that the engine has it.

    Args:
        engine: the engine that pulls.
        image: `repository@digest`.
        auth: `username` and `password` for its registry; None pulls anonymously.

    Raises:
        PullFailed: the registry or the engine refused, or the transfer broke.
        EngineUnreachable: the engine stopped answering.
    """
    try:
        # A pull that fails midway has status 200 and reports the error in the stream. The stream is read to its end,
        # because its connection stays open otherwise.
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
        # With None the library would use the credentials in this user's home folder.
        yield from engine.pull(image, stream=True, decode=True, auth_config=auth or {})
    except (*_BROKEN_CONNECTION, StreamParseError) as error:
        if isinstance(error, APIError):
            raise
        raise EngineUnreachable(f"The Docker engine stopped answering during the pull of {image}: {error}") from error


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
