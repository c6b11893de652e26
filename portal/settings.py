"""The settings of Flotilla, read from environment variables at startup. Used by all processes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from environs import FileAwareEnv
from environs.exceptions import EnvValidationError
from marshmallow import ValidationError
from marshmallow.validate import OneOf, Range

from portal.rules.outside_text import escape_unsafe

SUBMISSION_PORT = 587
_DEVELOPMENT_KEY = "for development only: this key signs nothing that matters"
_LOOPBACK_ADDRESS = "127.0.0.1"
_MIN_KEY_LENGTH = 32
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[0-9]{1,5})?")


class SettingsError(Exception):
    """The environment contains invalid settings. The message lists all problems."""


@dataclass(frozen=True, kw_only=True)
class MailSettings:
    """The SMTP server; `server` is None if none is configured."""

    server: str | None
    port: int
    username: str | None
    password: str | None = field(repr=False)
    use_tls: bool
    use_ssl: bool
    sender: str


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Where the gateway listens, and the domain of the bots' hosts; None if no bot can be opened through it."""

    bots_domain: str | None
    bind_address: str
    port: int


@dataclass(frozen=True, kw_only=True)
class UpstreamSettings:
    """The nightly sync of the bot's fork. `repo` is None if it is not configured."""

    repo: Path | None
    time_of_day: time
    rewriter: str
    forge: str | None
    forge_api: str | None
    forge_token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The configuration of one installation. The table in the README explains each setting."""

    production: bool
    secret_key: str = field(repr=False)
    secret_key_fallbacks: tuple[str, ...] = field(repr=False)
    base_url: str
    bind_address: str
    data_dir: Path
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    redis_embedded: bool
    mail: MailSettings
    gateway: GatewaySettings
    upstream: UpstreamSettings
    trusted_proxies: int
    public_signup: bool
    max_owned_orgs: int
    product_name: str
    billing_url: str | None
    fleet_image_allowlist: tuple[str, ...]
    snapshot_image: str
    restore_compares_all: bool
    insecure_registries: tuple[str, ...]
    registry_config: Path
    poll_every: timedelta | None
    health_check_timeout: timedelta | None
    """None: each strategy decides; see `portal.rules.health_check_timeout`."""
    health_interval: timedelta
    worker_processes: int

    @property
    def secure_cookies(self) -> bool:
        """Whether browsers use HTTPS, so that cookies can be restricted to it."""
        return self.base_url.startswith("https://")

    @property
    def binds_loopback(self) -> bool:
        """Whether only processes of this machine, such as a proxy, can connect to the portal."""
        return _is_loopback(self.bind_address)

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine can reach portal and gateway."""
        hosts = (self.bind_address, self.gateway.bind_address, urlsplit(self.base_url).hostname or "")
        return all(_is_loopback(host) for host in hosts)

    def bot_url(self, subdomain: str) -> str | None:
        """Return the URL of a bot for browsers, without a slash at the end; None without the setting BOTS_DOMAIN."""
        domain = self.gateway.bots_domain
        return f"{urlsplit(self.base_url).scheme}://{subdomain}.{domain}" if domain else None

    @classmethod
    def from_environment(cls) -> Settings:
        """Read and validate the environment.

        A secret may also be in a file whose path is in the variable `<NAME>_FILE`.

        Raises:
            SettingsError: some settings are invalid; the message has one line per problem.
        """
        env = FileAwareEnv(eager=False, strip_whitespace=True)
        try:
            settings = cls._read(env)
            env.seal()
        except EnvValidationError as error:
            raise SettingsError(_format_problems(error)) from None
        except UnicodeDecodeError:
            raise SettingsError("- A file that a variable NAME_FILE names is not UTF-8 text.") from None
        except ValueError as error:
            raise SettingsError(f"- {error}") from None
        _refuse_unsafe_characters(settings)
        _refuse_public_key(settings)
        _refuse_shared_domain(settings)
        return settings

    @classmethod
    def _read(cls, env: FileAwareEnv) -> Settings:
        production = env.str("FLOTILLA_ENV", "development", validate=OneOf(["development", "production"]))
        data_dir = Path(env.str("DATA_DIR", "instance")).absolute()
        redis_url = env.str("REDIS_URL", "")
        return cls(
            production=production == "production",
            secret_key=env.str("SECRET_KEY", validate=_validate_key)
            if production == "production"
            else env.str("SECRET_KEY", _DEVELOPMENT_KEY, validate=_validate_key),
            secret_key_fallbacks=tuple(
                key.strip() for key in env.list("SECRET_KEY_FALLBACKS", [], str, validate=_validate_keys) or ()
            ),
            base_url=env.str("BASE_URL", "http://127.0.0.1:8000", validate=_validate_url),
            bind_address=env.str("BIND_ADDRESS", "") or _LOOPBACK_ADDRESS,
            data_dir=data_dir,
            database_url=env.str(
                "DATABASE_URL", f"sqlite:///{data_dir / 'flotilla.db'}", validate=_validate_database_url
            ),
            redis_url=redis_url or f"unix://{data_dir / 'redis.sock'}",
            redis_embedded=not redis_url,
            mail=_read_mail(env),
            gateway=_read_gateway(env),
            upstream=_read_upstream(env),
            trusted_proxies=env.int("TRUSTED_PROXIES", 0, validate=Range(min=0, max=5)),
            public_signup=env.bool("PUBLIC_SIGNUP", True),
            max_owned_orgs=env.int("MAX_OWNED_ORGS", 5, validate=Range(min=0)),
            product_name=env.str("PRODUCT_NAME", "Flotilla"),
            billing_url=env.str("BILLING_URL", None, validate=_validate_url),
            fleet_image_allowlist=tuple(env.list("FLEET_IMAGE_ALLOWLIST", [])),
            snapshot_image=env.str("SNAPSHOT_IMAGE", "debian:12-slim"),
            restore_compares_all=env.bool("RESTORE_COMPARES_ALL", False),
            insecure_registries=tuple(env.list("INSECURE_REGISTRIES", [])),
            registry_config=Path(env.str("REGISTRY_CONFIG", "~/.docker/config.json")).expanduser(),
            poll_every=_read_seconds(env, "POLL_SECONDS", None),
            health_check_timeout=_read_seconds(env, "HEALTH_TIMEOUT_SECONDS", None),
            health_interval=_read_seconds(env, "HEALTH_INTERVAL_SECONDS", 5) or timedelta(),
            worker_processes=env.int("WORKER_PROCESSES", 3, validate=Range(min=2, max=64)),
        )


def _refuse_public_key(settings: Settings) -> None:
    """Refuse the built-in key, which everyone can read, where other machines can reach the portal.

    Raises:
        SettingsError: the portal is not for this machine only, and the built-in key would be accepted.
    """
    is_accepted = _DEVELOPMENT_KEY in (settings.secret_key, *settings.secret_key_fallbacks)
    if is_accepted and (settings.production or not settings.is_on_loopback):
        raise SettingsError(
            f"- SECRET_KEY: set a random key of {_MIN_KEY_LENGTH} characters or more. The built-in key is public, so "
            "it only works in development, with BIND_ADDRESS and BASE_URL on loopback."
        )


def _refuse_unsafe_characters(settings: Settings) -> None:
    """Refuse characters that files, databases, emails and pages cannot contain.

    Raises:
        SettingsError: a text contains control characters, or is not UTF-8. The message does not quote it.
    """
    groups = {"": settings, "mail_": settings.mail, "upstream_": settings.upstream, "gateway_": settings.gateway}
    texts = {f"{prefix}{name}": value for prefix, group in groups.items() for name, value in vars(group).items()}
    problems = [
        f"- {name.upper()}: contains a control character or bytes that are not UTF-8"
        for name, value in texts.items()
        for text in (value if isinstance(value, tuple) else [value])
        if isinstance(text, str | Path) and escape_unsafe(str(text)) != str(text)
    ]
    if problems:
        raise SettingsError("\n".join(problems))


def _refuse_shared_domain(settings: Settings) -> None:
    """Refuse a portal on the domain of the bots, because bots could then set cookies for the portal.

    Raises:
        SettingsError: the portal's host is BOTS_DOMAIN or one of its subdomains.
    """
    domain = (settings.gateway.bots_domain or "").partition(":")[0]
    portal = urlsplit(settings.base_url).hostname or ""
    if domain and f".{portal}".endswith(f".{domain}"):
        raise SettingsError(
            f"- BOTS_DOMAIN: the portal's host {portal} belongs to this domain. Give the bots another domain, "
            "such as bots.example.com beside portal.example.com."
        )


def _read_gateway(env: FileAwareEnv) -> GatewaySettings:
    return GatewaySettings(
        bots_domain=env.str("BOTS_DOMAIN", "", validate=_validate_domain) or None,
        bind_address=env.str("GATEWAY_BIND_ADDRESS", "") or _LOOPBACK_ADDRESS,
        port=env.int("GATEWAY_PORT", 8080, validate=Range(min=1, max=65535)),
    )


def _read_mail(env: FileAwareEnv) -> MailSettings:
    port = env.int("MAIL_PORT", SUBMISSION_PORT, validate=Range(min=1, max=65535))
    use_ssl = env.bool("MAIL_USE_SSL", False)
    return MailSettings(
        server=env.str("MAIL_SERVER", None),
        port=port,
        username=env.str("MAIL_USERNAME", None),
        password=env.str("MAIL_PASSWORD", None),
        # TLS is the default on the submission port, so that passwords are never sent unencrypted by mistake.
        use_tls=env.bool("MAIL_USE_TLS", port == SUBMISSION_PORT and not use_ssl),
        use_ssl=use_ssl,
        sender=env.str("MAIL_SENDER", "flotilla@localhost"),
    )


def _read_upstream(env: FileAwareEnv) -> UpstreamSettings:
    repo = env.str("UPSTREAM_REPO", "")
    return UpstreamSettings(
        repo=Path(repo).expanduser().absolute() if repo else None,
        time_of_day=env.time("UPSTREAM_TIME", time(6)),
        rewriter=env.str("UPSTREAM_REWRITER", "", validate=_validate_command),
        forge=env.str("UPSTREAM_FORGE", None, validate=OneOf(["github", "gitlab", "gitea"])),
        forge_api=env.str("UPSTREAM_FORGE_API", None, validate=_validate_url),
        forge_token=env.str("UPSTREAM_FORGE_TOKEN", ""),
    )


def _read_seconds(env: FileAwareEnv, name: str, default: float | None) -> timedelta | None:
    value = env.float(name, default, validate=Range(min=0.1, max=86400))
    return None if value is None else timedelta(seconds=value)


def _validate_key(value: str) -> None:
    if len(value.strip()) < _MIN_KEY_LENGTH:
        raise ValidationError(f"must have at least {_MIN_KEY_LENGTH} characters")


def _validate_keys(values: list[str]) -> None:
    for value in values:
        _validate_key(value)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _validate_url(value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValidationError("must be a URL such as https://portal.example.com")
    if value.endswith("/"):
        raise ValidationError("must not end with a slash")


def _validate_domain(value: str) -> None:
    if value and not _DOMAIN.fullmatch(value):
        raise ValidationError(
            "must be a domain in lower case such as bots.example.com, with :PORT unless it is usual"
        )


def _validate_command(value: str) -> None:
    try:
        shlex.split(value)
    except ValueError as error:
        raise ValidationError("must be a command with balanced quotes") from error


def _validate_database_url(value: str) -> None:
    if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValidationError("must start with sqlite:/// or postgresql+psycopg://")


def _format_problems(error: EnvValidationError) -> str:
    if not isinstance(error.error_messages, Mapping):
        return "\n".join(f"- {text}" for text in error.error_messages)
    return "\n".join(f"- {name}: {' '.join(texts)}" for name, texts in sorted(error.error_messages.items()))
