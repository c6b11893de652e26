"""Client for OCI registries: resolve image references to digests. Used by the poller and `flotilla doctor`."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

from daemon.network.deadlines import Deadline, DeadlineExceeded
from daemon.registry.auth import Authenticator, Challenge, choose_challenge
from daemon.registry.credentials import Credentials
from daemon.registry.errors import InvalidResponse, NotFound, TooSlow, WrongCredentials
from daemon.registry.manifests import MEDIA_TYPES, compute_digest, find_platform_digests
from daemon.registry.transport import Response, Transport, same_origin
from portal.rules.references import DEFAULT_REGISTRY, DEFAULT_TAG, Reference, is_digest

DEADLINE_SECONDS = 30.0
"""Time limit for finding the digest of an image, with all redirects and tokens."""
MAX_MANIFEST_BYTES = 4 * 1024 * 1024

_DOCKER_HUB = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """The result of resolving a reference.

    Attributes:
        digest: the digest to pin.
        platform_digests: for an index, the digest of the manifest of each requested platform.
    """

    digest: str
    platform_digests: dict[str, str]


class RegistryClient:
    """Reads manifests from registries, anonymously or with credentials.

    A client caches tokens, challenges and rate limits, so one client should serve many requests. It is not
    thread-safe.

    Args:
        credentials: credentials by registry; None for anonymous access.
        insecure_registries: registries to access by plain HTTP, in addition to those on loopback addresses.
        timeout: seconds to wait for a connection and for each part of a response.
        deadline: seconds that one call of a method may take, with all its requests, redirects and tokens.
        clock: returns the current moment in UTC.
    """

    def __init__(
        self,
        credentials: Credentials | None = None,
        insecure_registries: Iterable[str] = (),
        *,
        timeout: float = 10.0,
        deadline: float = DEADLINE_SECONDS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._transport = Transport(timeout=timeout, clock=clock)
        self._authenticator = Authenticator(self._transport, credentials or Credentials(), clock)
        self._insecure = frozenset(insecure_registries)
        self._deadline = deadline
        self._challenges: dict[str, Challenge] = {}

    def get_current_digest(self, reference: Reference) -> str:
        """Return the digest that a tag points at now. One small request is usually enough.

        Raises:
            WrongCredentials: the registry refuses access.
            NotFound: the repository or tag does not exist.
            RateLimited: the registry limits requests.
            TooSlow: the registry did not answer completely in time.
            RegistryError: any other error; it is transient.
        """
        with self._limit_time(reference):
            return self._find_current_digest(reference)

    def _find_current_digest(self, reference: Reference) -> str:
        url = self._build_url(reference, reference.tag or DEFAULT_TAG)
        head = self._request("HEAD", url, reference)
        announced = head.headers.get("Docker-Content-Digest", "")
        if head.status == 200 and is_digest(announced):
            return announced
        # Some registries do not support HEAD or send no digest. The digest is then the hash of the manifest.
        return compute_digest(self._fetch_manifest(url, reference))

    def resolve(self, reference: Reference, platforms: Collection[str]) -> ResolvedImage:
        """Find the digest to pin and the digests of its platforms.

        The manifest is fetched by digest and hashed, which detects a wrong digest header and a tag that has moved in
        between.

        Args:
            reference: the image; its digest is used if it has one, otherwise its tag.
            platforms: for example `linux/amd64`.

        Raises:
            InvalidResponse: the registry contradicts itself, or the image was built for none of the platforms.
            RegistryError: as for `get_current_digest`.
        """
        with self._limit_time(reference):
            return self._resolve(reference, platforms)

    def _resolve(self, reference: Reference, platforms: Collection[str]) -> ResolvedImage:
        digest = reference.digest or self._find_current_digest(reference)
        try:
            raw = self._fetch_manifest(self._build_url(reference, digest), reference)
        except NotFound as error:
            if reference.digest:
                raise
            raise InvalidResponse(
                f"{reference} points at {digest}, but {reference.registry} does not have it."
            ) from error
        if compute_digest(raw) != digest:
            raise InvalidResponse(f"{reference.registry} returned other content for {digest}: {compute_digest(raw)}.")
        return ResolvedImage(digest, find_platform_digests(raw, platforms))

    @contextmanager
    def _limit_time(self, reference: Reference) -> Iterator[None]:
        try:
            with Deadline(self._deadline):
                yield
        except DeadlineExceeded as error:
            raise TooSlow(f"{reference.registry} did not answer completely within {self._deadline:g} s.") from error

    def _fetch_manifest(self, url: str, reference: Reference) -> bytes:
        response = self._request("GET", url, reference)
        if response.status != 200:
            raise InvalidResponse(f"{reference.registry} returned status {response.status} for {reference}.")
        return response.body

    def _request(self, method: str, url: str, reference: Reference) -> Response:
        """Send a request with the authorization of the last challenge; answer a new challenge at most once."""
        challenge = self._challenges.get(reference.name)
        response = self._send(method, url, reference, challenge, renew=False)
        if response.status == 401:
            if not same_origin(url, response.url):
                raise InvalidResponse(f"{reference.registry} redirects to a host that requires authentication.")
            refused, challenge = challenge, choose_challenge(response)
            self._challenges[reference.name] = challenge
            response = self._send(method, url, reference, challenge, renew=refused == challenge)
        if response.status in {401, 403}:
            raise WrongCredentials(
                f"{reference.registry} refuses access to {reference.repository}. Check that the repository exists"
                f" and that the entry of {reference.registry} in auths of the registry config.json is correct."
            )
        if response.status == 404:
            raise NotFound(f"{reference} does not exist in {reference.registry}.")
        return response

    def _send(
        self, method: str, url: str, reference: Reference, challenge: Challenge | None, *, renew: bool
    ) -> Response:
        headers = {"Accept": ", ".join(MEDIA_TYPES)}
        if challenge is not None:
            headers["Authorization"] = self._authenticator.build_authorization(
                reference.registry, reference.repository, challenge, renew=renew
            )
        return self._transport.send(method, url, headers=headers, limit=MAX_MANIFEST_BYTES, follow=True)

    def _build_url(self, reference: Reference, version: str) -> str:
        host = _DOCKER_HUB if reference.registry == DEFAULT_REGISTRY else reference.registry
        scheme = "http" if reference.registry in self._insecure or _is_loopback(host) else "https"
        return f"{scheme}://{host}/v2/{reference.repository}/manifests/{version}"


def _is_loopback(registry: str) -> bool:
    host = registry.partition(":")[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
