"""Errors of registries, distinguished by how the operator or the poller must react. Used by this package and jobs."""


class RegistryError(Exception):
    """The registry gave no usable response. The message gives the reason and contains no secrets."""


class WrongCredentials(RegistryError):
    """The registry refuses the credentials or requires some. Retrying does not help."""


class NotFound(RegistryError):
    """The repository, tag or digest does not exist in the registry."""


class RateLimited(RegistryError):
    """The registry limits requests.

    Attributes:
        host: the host of the registry or token server.
        retry_after: seconds to wait before the next request.
    """

    def __init__(self, host: str, retry_after: float) -> None:
        super().__init__(f"{host} limits requests. Next request in {retry_after:.0f} s.")
        self.host = host
        self.retry_after = retry_after


class Unreachable(RegistryError):
    """There was no response because of the network, DNS, the certificate or the server. Transient."""


class TooSlow(Unreachable):
    """The registry or its token server did not answer completely in time."""


class InvalidResponse(RegistryError):
    """The response violates the registry protocol or contradicts itself. Treated as transient."""
