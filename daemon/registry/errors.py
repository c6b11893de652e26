"""What can go wrong with a registry, told apart by what an operator or the poller has to do about it."""


class RegistryError(Exception):
    """The registry gave no usable answer; the message says why, without secrets."""


class WrongCredentials(RegistryError):
    """The registry refuses the configured (or missing) credentials; waiting will not help."""


class NotFound(RegistryError):
    """The registry knows no such repository, tag or digest."""


class RateLimited(RegistryError):
    """The registry asked to be left alone for ``retry_after`` seconds."""

    def __init__(self, host: str, retry_after: float) -> None:
        """Remember how long to wait, in seconds."""
        super().__init__(f"{host} limits our requests; it will be asked again in {retry_after:.0f} s.")
        self.host = host
        self.retry_after = retry_after


class Unreachable(RegistryError):
    """No answer: network, name service, certificate or server trouble. Transient."""


class BadAnswer(RegistryError):
    """An answer that breaks the registry protocol or contradicts itself. Treated as transient."""
