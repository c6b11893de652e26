"""Image references, such as `ghcr.io/acme/paperclip:managed`: parse, normalize, pin. Used wherever an image enters.

Splitting a reference by hand breaks on `localhost:5000/bot:1` and on digests, and two spellings of one image (`nginx`
and `docker.io/library/nginx`) must compare equal. References are therefore compared in their normalized form.
"""

import re
from dataclasses import dataclass, replace

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"

_MAX_NAME = 255
_LEGACY_DEFAULT_REGISTRY = "index.docker.io"
_OFFICIAL_NAMESPACE = "library"

_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_REGISTRY = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::(?P<port>[0-9]{{1,5}}))?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")


class InvalidReference(ValueError):
    """A text that is not an image reference. The message says which part is wrong."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalized image reference.

    Attributes:
        registry: host and optional port in lower case; `docker.io` by default.
        repository: path within the registry, with `library/` for official images of Docker Hub.
        tag: the tag as written, or None.
        digest: `sha256:` and 64 hex digits, or None. With a digest the tag has no effect.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        """Return the full normalized form, with `:latest` where neither tag nor digest is given."""
        tag = self.tag or (None if self.digest else DEFAULT_TAG)
        return self.name + (f":{tag}" if tag else "") + (f"@{self.digest}" if self.digest else "")

    def pinned(self, digest: str) -> str:
        """Return `registry/repository@digest`, the form in which an engine pulls an image.

        Raises:
            InvalidReference: `digest` is not a SHA-256 digest.
        """
        return str(replace(self, tag=None, digest=_checked_digest(digest)))


def parse_reference(text: str) -> Reference:
    """Parse an image reference by the rules of a Docker engine.

    The first component is a registry when it contains a dot or a colon or is `localhost`. Every other image belongs
    to Docker Hub, official images to `library/`.

    Raises:
        InvalidReference: the text is not an image reference.
    """
    name, at, digest = text.partition("@")
    name, tag = _split_tag(name)
    reference = _parse_name(name)
    return replace(
        reference,
        tag=None if tag is None else _checked_tag(tag),
        digest=_checked_digest(digest) if at else None,
    )


def parse_registry(text: str) -> str | None:
    """Return the normalized registry if `text` is a registry alone (`ghcr.io`, `localhost:5000`), else None.

    Raises:
        InvalidReference: the text has the form of a registry but is not a valid one.
    """
    return _checked_registry(text) if "/" not in text and _looks_like_registry(text) else None


def is_digest(text: str) -> bool:
    """Return whether `text` is a SHA-256 digest, `sha256:` and 64 lower-case hex digits."""
    return _DIGEST.fullmatch(text) is not None


def _split_tag(name: str) -> tuple[str, str | None]:
    head, colon, tail = name.rpartition(":")
    if not colon or "/" in tail:  # a colon before a slash precedes the port of the registry
        return name, None
    return head, tail


def _parse_name(name: str) -> Reference:
    if not name:
        raise InvalidReference("An image reference needs a repository, such as ghcr.io/acme/bot:stable.")
    if "://" in name:
        raise InvalidReference(f"Leave out the scheme: {name!r} must begin with the host of the registry.")
    first, slash, rest = name.partition("/")
    if slash and _looks_like_registry(first):
        registry, repository = _checked_registry(first), rest
    else:
        registry, repository = DEFAULT_REGISTRY, name
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"{_OFFICIAL_NAMESPACE}/{repository}"
    _check_repository(repository)
    if len(registry) + 1 + len(repository) > _MAX_NAME:
        raise InvalidReference(f"The name of an image may have at most {_MAX_NAME} characters.")
    if registry == DEFAULT_REGISTRY and _IMAGE_ID.fullmatch(name):
        raise InvalidReference("64 hex digits are the id of a local image. Enter a repository of a registry instead.")
    return Reference(registry, repository)


def _looks_like_registry(component: str) -> bool:
    return "." in component or ":" in component or component.lower() == "localhost"


def _checked_registry(text: str) -> str:
    registry = text.lower()  # host names are case-insensitive, repositories are not
    match = _REGISTRY.fullmatch(registry)
    if match is None:
        raise InvalidReference(f"{text!r} is not a registry: expected a host name and an optional :port.")
    if match["port"] is not None and not 0 < int(match["port"]) < 2**16:
        raise InvalidReference(f"{text!r} has no valid port: expected a number from 1 to 65535.")
    return DEFAULT_REGISTRY if registry == _LEGACY_DEFAULT_REGISTRY else registry


def _check_repository(repository: str) -> None:
    if repository != repository.lower():
        raise InvalidReference(f"The repository {repository!r} must be in lower case.")
    for component in repository.split("/"):
        if not _COMPONENT.fullmatch(component):
            raise InvalidReference(
                f"{component!r} cannot be part of the repository {repository!r}: use lower-case letters and"
                " digits, separated by one dot, one or two underscores, or dashes."
            )


def _checked_tag(tag: str) -> str:
    if not _TAG.fullmatch(tag):
        raise InvalidReference(
            f"{tag!r} is not a tag: use up to 128 letters, digits, dots, dashes and underscores,"
            " beginning with a letter, a digit or an underscore."
        )
    return tag


def _checked_digest(digest: str) -> str:
    if not is_digest(digest):
        raise InvalidReference(f"{digest!r} is not a digest: expected sha256: and 64 lower-case hex digits.")
    return digest
