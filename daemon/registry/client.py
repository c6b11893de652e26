"""Asking any OCI registry what a reference points at."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

from daemon.registry.auth import Authenticator, Challenge, choose
from daemon.registry.credentials import Credentials
from daemon.registry.errors import BadAnswer, NotFound, WrongCredentials
from daemon.registry.manifests import MEDIA_TYPES, digest_of, platform_digests
from daemon.registry.transport import Answer, Transport, same_origin
from portal.rules.references import DEFAULT_REGISTRY, DEFAULT_TAG, Reference, is_digest

MANIFEST_LIMIT = 4 * 1024 * 1024

_DOCKER_HUB = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference points at: the digest to pin, and for an index the manifests of the platforms asked for."""

    digest: str
    platform_digests: dict[str, str]


class RegistryClient:
    """Reads manifests from registries, anonymously or with credentials.

    A client remembers tokens, challenges and cool-downs, so one client should serve many questions. It is
    not safe for use by several threads at once.
    """

    def __init__(
        self,
        credentials: Credentials | None = None,
        insecure_registries: Iterable[str] = (),
        *,
        timeout: float = 10.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            credentials: By registry; anonymous access where None.
            insecure_registries: Registries spoken to in plain HTTP, besides those on loopback addresses.
            timeout: Seconds to wait for a connection and for each part of an answer.
            clock: The present time in UTC.
        """
        self._transport = Transport(timeout=timeout, clock=clock)
        self._authenticator = Authenticator(self._transport, credentials or Credentials(), clock)
        self._insecure = frozenset(insecure_registries)
        self._challenges: dict[str, Challenge] = {}

    def current_digest(self, reference: Reference) -> str:
        """Ask which digest a tag points at now: one small request in the usual case.

        Raises:
            WrongCredentials: if the registry refuses to tell us.
            NotFound: if there is no such repository or tag.
            RateLimited: if the registry wants fewer requests.
            RegistryError: in any other trouble, which is transient.
        """
        url = self._url(reference, reference.tag or DEFAULT_TAG)
        head = self._request("HEAD", url, reference)
        announced = head.headers.get("Docker-Content-Digest", "")
        if head.status == 200 and is_digest(announced):
            return announced
        # Some registries refuse HEAD or announce nothing: the digest is the hash of the manifest itself.
        return digest_of(self._manifest(url, reference))

    def resolve(self, reference: Reference, platforms: Collection[str]) -> Resolved:
        """Find the digest to pin and the manifests of ``platforms`` behind it.

        The manifest is fetched by its digest and its bytes are hashed, so neither a wrong announcement nor
        a tag that moves in between goes unnoticed.

        Args:
            reference: By tag or, if it has one, by digest.
            platforms: Such as ``linux/amd64``.

        Raises:
            BadAnswer: if the registry contradicts itself or the image was built for none of the platforms.
            RegistryError: as for `current_digest`.
        """
        digest = reference.digest or self.current_digest(reference)
        try:
            raw = self._manifest(self._url(reference, digest), reference)
        except NotFound as error:
            if reference.digest:
                raise
            raise BadAnswer(f"{reference} points at {digest}, which {reference.registry} lacks.") from error
        if digest_of(raw) != digest:
            raise BadAnswer(f"{reference.registry} answers for {digest} with other content: {digest_of(raw)}.")
        return Resolved(digest, platform_digests(raw, platforms))

    def _manifest(self, url: str, reference: Reference) -> bytes:
        answer = self._request("GET", url, reference)
        if answer.status != 200:
            raise BadAnswer(f"{reference.registry} answered with status {answer.status} for {reference}.")
        return answer.body

    def _request(self, method: str, url: str, reference: Reference) -> Answer:
        """Send with what the last challenge asked for; answer a new one at most once."""
        challenge = self._challenges.get(reference.name)
        answer = self._send(method, url, reference, challenge, renew=False)
        if answer.status == 401:
            if not same_origin(url, answer.url):
                raise BadAnswer(f"{reference.registry} redirects to a host that asks for authentication.")
            refused, challenge = challenge, choose(answer)
            self._challenges[reference.name] = challenge
            answer = self._send(method, url, reference, challenge, renew=refused == challenge)
        if answer.status in {401, 403}:
            raise WrongCredentials(
                f"{reference.registry} does not let us read {reference.repository}: check whether it exists"
                f" and what the registry config.json says in auths about {reference.registry}."
            )
        if answer.status == 404:
            raise NotFound(f"{reference.registry} has no {reference}.")
        return answer

    def _send(
        self, method: str, url: str, reference: Reference, challenge: Challenge | None, *, renew: bool
    ) -> Answer:
        headers = {"Accept": ", ".join(MEDIA_TYPES)}
        if challenge is not None:
            headers["Authorization"] = self._authenticator.authorization(
                reference.registry, reference.repository, challenge, renew=renew
            )
        return self._transport.send(method, url, headers=headers, limit=MANIFEST_LIMIT, follow=True)

    def _url(self, reference: Reference, version: str) -> str:
        host = _DOCKER_HUB if reference.registry == DEFAULT_REGISTRY else reference.registry
        scheme = "http" if reference.registry in self._insecure or _is_loopback(host) else "https"
        return f"{scheme}://{host}/v2/{reference.repository}/manifests/{version}"


def _is_loopback(registry: str) -> bool:
    host = registry.partition(":")[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
