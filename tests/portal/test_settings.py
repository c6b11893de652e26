"""Reading and validating the settings from the environment."""

from __future__ import annotations

import os
from datetime import time
from pathlib import Path

import pytest

from portal.settings import Settings, SettingsError


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = (
        *("SECRET_KEY", "SECRET_KEY_FILE", "SECRET_KEY_FALLBACKS", "DATABASE_URL", "REDIS_URL"),
        *("FLOTILLA_ENV", "BASE_URL", "BIND_ADDRESS", "BOTS_DOMAIN", "GATEWAY_BIND_ADDRESS", "GATEWAY_PORT"),
    )
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))


def test_all_settings_have_defaults_for_development(tmp_path: Path) -> None:
    settings = Settings.from_environment()
    assert settings.database_url == f"sqlite:///{tmp_path}/flotilla.db"
    assert settings.redis_embedded
    assert settings.fleet_image_allowlist == ()


def test_all_problems_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASE_URL", "portal.example.com")
    monkeypatch.setenv("WORKER_PROCESSES", "many")
    monkeypatch.setenv("HEALTH_TIMEOUT_SECONDS", "-3")
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment()
    text = str(raised.value)
    assert all(name in text for name in ("BASE_URL", "WORKER_PROCESSES", "HEALTH_TIMEOUT_SECONDS"))


def test_file_that_is_not_text_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"secret-part\xff" * 10)
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(SettingsError, match="A file that a variable NAME_FILE names is not UTF-8 text") as raised:
        Settings.from_environment()
    assert "secret-part" not in str(raised.value)


HOSTILE_VALUES = {
    **dict.fromkeys(
        (
            *(
                "SECRET_KEY",
                "SECRET_KEY_FALLBACKS",
                "BIND_ADDRESS",
                "GATEWAY_BIND_ADDRESS",
                "BOTS_DOMAIN",
                "DATA_DIR",
                "REDIS_URL",
                "PRODUCT_NAME",
            ),
            *("FLEET_IMAGE_ALLOWLIST", "SNAPSHOT_IMAGE", "INSECURE_REGISTRIES", "REGISTRY_CONFIG"),
            *("MAIL_SERVER", "MAIL_USERNAME", "MAIL_PASSWORD", "MAIL_SENDER"),
            *("UPSTREAM_REPO", "UPSTREAM_REWRITER", "UPSTREAM_FORGE_TOKEN"),
        ),
        "secret-part-secret-part-secret-part{}-end",
    ),
    **dict.fromkeys(("BASE_URL", "BILLING_URL", "UPSTREAM_FORGE_API"), "http://localhost/secret-part{}-end"),
    "DATABASE_URL": "sqlite:///secret-part{}-end",
}
"""Valid values of all settings with text, with a place for a character."""


@pytest.mark.parametrize("name", HOSTILE_VALUES)
@pytest.mark.parametrize("character", [b"\0", b"\xff", b"\n", b"\x1b", "\u202e".encode()])
def test_unsafe_characters_are_refused_without_quoting_the_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, character: bytes
) -> None:
    value = HOSTILE_VALUES[name].encode().replace(b"{}", character)
    if b"\0" in value:  # a variable cannot contain NUL, but a file can
        file = tmp_path / "value"
        file.write_bytes(value)
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(f"{name}_FILE", str(file))
    else:
        monkeypatch.setenv(name, os.fsdecode(value))

    with pytest.raises(SettingsError) as raised:
        Settings.from_environment()

    assert name in str(raised.value)
    assert "secret-part" not in str(raised.value)


@pytest.mark.parametrize("key", [None, "short"])
def test_production_requires_a_long_secret_key(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    monkeypatch.setenv("FLOTILLA_ENV", "production")
    if key is not None:
        monkeypatch.setenv("SECRET_KEY", key)
    with pytest.raises(SettingsError, match="SECRET_KEY"):
        Settings.from_environment()


@pytest.mark.parametrize(
    "environment",
    [
        {"BIND_ADDRESS": "0.0.0.0"},
        {"BIND_ADDRESS": "[::]"},
        {"BIND_ADDRESS": "192.0.2.1"},
        {"GATEWAY_BIND_ADDRESS": "0.0.0.0"},
        {"BASE_URL": "https://portal.example.com"},
        {"BASE_URL": "http://192.0.2.1:8000"},
        {"BASE_URL": "http://localhost.example.com"},
    ],
)
def test_built_in_key_only_works_on_loopback(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    built_in = Settings.from_environment().secret_key
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="SECRET_KEY"):
        Settings.from_environment()
    monkeypatch.setenv("SECRET_KEY", built_in)
    with pytest.raises(SettingsError, match="SECRET_KEY"):
        Settings.from_environment()
    # Signatures of former keys are accepted, too.
    monkeypatch.setenv("SECRET_KEY", "k" * 40)
    monkeypatch.setenv("SECRET_KEY_FALLBACKS", f"{'f' * 40},{built_in}")
    with pytest.raises(SettingsError, match="SECRET_KEY"):
        Settings.from_environment()
    monkeypatch.setenv("SECRET_KEY_FALLBACKS", "f" * 40)
    assert Settings.from_environment().secret_key == "k" * 40


@pytest.mark.parametrize(
    "environment",
    [
        {"BIND_ADDRESS": ""},
        {"BIND_ADDRESS": "localhost", "BASE_URL": "http://localhost:9000"},
        {"BIND_ADDRESS": "[::1]", "BASE_URL": "http://[::1]:8000"},
        {"BIND_ADDRESS": "127.0.0.2", "BASE_URL": "http://127.0.0.2:8000"},
    ],
)
def test_built_in_key_works_on_loopback(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment().is_on_loopback


def test_built_in_key_does_not_work_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    built_in = Settings.from_environment().secret_key
    monkeypatch.setenv("FLOTILLA_ENV", "production")
    monkeypatch.setenv("SECRET_KEY", built_in)
    with pytest.raises(SettingsError, match="SECRET_KEY"):
        Settings.from_environment()


@pytest.mark.parametrize("keys", [",", "f" * 40 + ",", "f" * 40 + ", ,", "short", " " * 40])
def test_former_keys_are_as_long_as_the_current_one(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    """An empty key after a comma would let anyone sign cookies."""
    monkeypatch.setenv("SECRET_KEY_FALLBACKS", keys)
    with pytest.raises(SettingsError, match="SECRET_KEY_FALLBACKS: must have at least 32 characters"):
        Settings.from_environment()


def test_former_keys_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY_FALLBACKS", f"{'f' * 40}, {'g' * 40}")
    assert Settings.from_environment().secret_key_fallbacks == ("f" * 40, "g" * 40)


def test_secret_is_read_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("k" * 40 + "\n")
    monkeypatch.setenv("FLOTILLA_ENV", "production")
    monkeypatch.setenv("SECRET_KEY_FILE", str(secret))
    assert Settings.from_environment().secret_key == "k" * 40


def test_unreadable_secret_file_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "nothing"))
    with pytest.raises(SettingsError, match="SECRET_KEY_FILE"):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, True),
        ({"MAIL_PORT": "25"}, False),
        ({"MAIL_USE_SSL": "true"}, False),
        ({"MAIL_USE_TLS": "false"}, False),
        ({"MAIL_PORT": "25", "MAIL_USE_TLS": "true"}, True),
    ],
)
def test_tls_is_the_default_on_the_submission_port_only(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], *, expected: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment().mail.use_tls is expected


def test_representation_contains_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "s3cret-" * 8)
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://u:passw0rd@localhost/x")
    monkeypatch.setenv("MAIL_PASSWORD", "mailw0rd")
    text = repr(Settings.from_environment())
    assert "s3cret" not in text
    assert "passw0rd" not in text
    assert "mailw0rd" not in text


def test_sync_of_the_fork_is_off_by_default() -> None:
    upstream = Settings.from_environment().upstream
    assert (upstream.repo, upstream.time_of_day, upstream.forge_token) == (None, time(6), "")


def test_sync_of_the_fork_is_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    monkeypatch.setenv("UPSTREAM_REPO", str(tmp_path))
    monkeypatch.setenv("UPSTREAM_TIME", "03:30")
    monkeypatch.setenv("UPSTREAM_FORGE_TOKEN_FILE", str(tmp_path / "token"))
    settings = Settings.from_environment()
    assert (settings.upstream.repo, settings.upstream.time_of_day) == (tmp_path, time(3, 30))
    assert settings.upstream.forge_token == "t0ken"
    assert "t0ken" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UPSTREAM_TIME", "25:00"),
        ("UPSTREAM_FORGE", "sourceforge"),
        ("UPSTREAM_FORGE_API", "api.example.com"),
        ("UPSTREAM_REWRITER", "polish 'it"),
    ],
)
def test_invalid_settings_of_the_sync_are_reported(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("base_url", "domain", "expected"),
    [
        ("https://portal.example.com", "bots.example.com", "https://acme.bots.example.com"),
        ("http://127.0.0.1:8000", "localhost:8080", "http://acme.localhost:8080"),
        ("https://bots.example.org", "bots.example.com", "https://acme.bots.example.com"),
        ("https://portal.example.com", "", None),
    ],
)
def test_bots_have_addresses_below_their_domain(
    monkeypatch: pytest.MonkeyPatch, base_url: str, domain: str, expected: str | None
) -> None:
    monkeypatch.setenv("SECRET_KEY", "k" * 40)
    monkeypatch.setenv("BASE_URL", base_url)
    monkeypatch.setenv("BOTS_DOMAIN", domain)
    assert Settings.from_environment().bot_url("acme") == expected


@pytest.mark.parametrize(
    "domain",
    [
        *(
            "https://bots.example.com",
            "bots.example.com/",
            "Bots.example.com",
            "*.bots.example.com",
            "a b",
            "-a.example",
        ),
        *("example.com", "portal.example.com", "com", "example.com:8080"),
    ],
)
def test_the_portal_is_not_on_the_domain_of_the_bots(monkeypatch: pytest.MonkeyPatch, domain: str) -> None:
    monkeypatch.setenv("SECRET_KEY", "k" * 40)
    monkeypatch.setenv("BASE_URL", "https://portal.example.com")
    monkeypatch.setenv("BOTS_DOMAIN", domain)
    with pytest.raises(SettingsError, match="BOTS_DOMAIN"):
        Settings.from_environment()
