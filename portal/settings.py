"""Every setting of Flotilla, read once from the environment and then passed around, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from environs import FileAwareEnv
from environs.exceptions import EnvValidationError
from marshmallow import ValidationError
from marshmallow.validate import Length, OneOf, Range

SUBMISSION_PORT = 587
_DEVELOPMENT_KEY = "for development only: this key signs nothing that matters"


class SettingsError(Exception):
    """The environment does not make a usable configuration; the text lists every problem at once."""


@dataclass(frozen=True, kw_only=True)
class MailSettings:
    """How to reach the SMTP server; `server` is None where no mail can be sent."""

    server: str | None
    port: int
    username: str | None
    password: str | None = field(repr=False)
    use_tls: bool
    use_ssl: bool
    sender: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The configuration of one Flotilla installation. The README's table explains each name."""

    production: bool
    secret_key: str = field(repr=False)
    secret_key_fallbacks: tuple[str, ...] = field(repr=False)
    base_url: str
    data_dir: Path
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    redis_embedded: bool
    mail: MailSettings
    trusted_proxies: int
    public_signup: bool
    product_name: str
    billing_url: str | None
    fleet_image_allowlist: tuple[str, ...]
    snapshot_image: str
    insecure_registries: tuple[str, ...]
    registry_config: Path
    poll_every: timedelta | None
    health_timeout: timedelta | None
    health_interval: timedelta
    worker_processes: int

    @property
    def secure_cookies(self) -> bool:
        """True where browsers reach the portal by https, so cookies may insist on it."""
        return self.base_url.startswith("https://")

    @classmethod
    def from_environment(cls) -> Settings:
        """Read and check the environment; a secret may also come from the file `NAME_FILE` names.

        Raises:
            SettingsError: with every problem found, one a line.
        """
        env = FileAwareEnv(eager=False, strip_whitespace=True)
        try:
            settings = cls._read(env)
            env.seal()
        except EnvValidationError as error:
            raise SettingsError(_report(error)) from None
        except ValueError as error:
            raise SettingsError(f"- {error}") from None
        return settings

    @classmethod
    def _read(cls, env: FileAwareEnv) -> Settings:
        production = env.str("FLOTILLA_ENV", "development", validate=OneOf(["development", "production"]))
        data_dir = Path(env.str("DATA_DIR", "instance")).absolute()
        redis_url = env.str("REDIS_URL", "")
        secret = {"validate": Length(min=32, error="must have 32 characters or more")}
        return cls(
            production=production == "production",
            secret_key=env.str("SECRET_KEY", **secret)
            if production == "production"
            else env.str("SECRET_KEY", _DEVELOPMENT_KEY, **secret),
            secret_key_fallbacks=tuple(env.list("SECRET_KEY_FALLBACKS", [])),
            base_url=env.str("BASE_URL", "http://127.0.0.1:8000", validate=_web_address),
            data_dir=data_dir,
            database_url=env.str("DATABASE_URL", f"sqlite:///{data_dir / 'flotilla.db'}", validate=_database),
            redis_url=redis_url or f"unix://{data_dir / 'redis.sock'}",
            redis_embedded=not redis_url,
            mail=_mail(env),
            trusted_proxies=env.int("TRUSTED_PROXIES", 0, validate=Range(min=0, max=5)),
            public_signup=env.bool("PUBLIC_SIGNUP", True),
            product_name=env.str("PRODUCT_NAME", "Flotilla"),
            billing_url=env.str("BILLING_URL", None, validate=_web_address),
            fleet_image_allowlist=tuple(env.list("FLEET_IMAGE_ALLOWLIST", [])),
            snapshot_image=env.str("SNAPSHOT_IMAGE", "debian:12-slim"),
            insecure_registries=tuple(env.list("INSECURE_REGISTRIES", [])),
            registry_config=Path(env.str("REGISTRY_CONFIG", "~/.docker/config.json")).expanduser(),
            poll_every=_seconds(env, "POLL_SECONDS", None),
            health_timeout=_seconds(env, "HEALTH_TIMEOUT_SECONDS", None),
            health_interval=_seconds(env, "HEALTH_INTERVAL_SECONDS", 5) or timedelta(),
            worker_processes=env.int("WORKER_PROCESSES", 3, validate=Range(min=2, max=64)),
        )


def _mail(env: FileAwareEnv) -> MailSettings:
    port = env.int("MAIL_PORT", SUBMISSION_PORT, validate=Range(min=1, max=65535))
    use_ssl = env.bool("MAIL_USE_SSL", False)
    return MailSettings(
        server=env.str("MAIL_SERVER", None),
        port=port,
        username=env.str("MAIL_USERNAME", None),
        password=env.str("MAIL_PASSWORD", None),
        # On the port for sending mail a password must not travel in the clear because nobody thought of it.
        use_tls=env.bool("MAIL_USE_TLS", port == SUBMISSION_PORT and not use_ssl),
        use_ssl=use_ssl,
        sender=env.str("MAIL_SENDER", "flotilla@localhost"),
    )


def _seconds(env: FileAwareEnv, name: str, default: float | None) -> timedelta | None:
    value = env.float(name, default, validate=Range(min=0.1, max=86400))
    return None if value is None else timedelta(seconds=value)


def _web_address(value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValidationError("must be a web address such as https://portal.example.com")
    if value.endswith("/"):
        raise ValidationError("must not end with a slash")


def _database(value: str) -> None:
    if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValidationError("must start with sqlite:/// or postgresql+psycopg://")


def _report(error: EnvValidationError) -> str:
    if not isinstance(error.error_messages, Mapping):
        return "\n".join(f"- {text}" for text in error.error_messages)
    return "\n".join(f"- {name}: {' '.join(texts)}" for name, texts in sorted(error.error_messages.items()))
