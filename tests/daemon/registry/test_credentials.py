"""Registry credentials from a Docker `config.json`."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from daemon.registry.credentials import Credential, Credentials, CredentialsError
from daemon.registry.errors import WrongCredentials


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def _read(config: Path, document: Any) -> Credentials:
    config.write_text(json.dumps(document))
    return Credentials.from_docker_config(config)


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("ghcr.io", "ghcr.io"),
        ("GHCR.io", "ghcr.io"),
        ("https://registry.example:5000/v2/", "registry.example:5000"),
        ("http://localhost:5000", "localhost:5000"),
    ],
)
def test_keys_are_normalized_to_registries(config: Path, key: str, registry: str) -> None:
    credentials = _read(config, {"auths": {key: {"auth": _encode("fleet:pass")}}})

    assert credentials.for_registry(registry) == Credential("fleet", "pass")
    assert credentials.for_registry("other.example") is None


@pytest.mark.parametrize(
    ("entry", "credential"),
    [
        ({"auth": _encode("fleet:a:b")}, Credential("fleet", "a:b")),
        ({"auth": _encode("fleet:päss")}, Credential("fleet", "päss")),
        ({"auth": _encode("fleet:pass\0\0")}, Credential("fleet", "pass")),
        ({"username": "fleet", "password": "pass"}, Credential("fleet", "pass")),
        (
            {"auth": _encode("00000000-0000-0000-0000-000000000000:"), "identitytoken": "token"},
            Credential("00000000-0000-0000-0000-000000000000", "", "token"),
        ),
        ({"identitytoken": "token"}, Credential("", "", "token")),
    ],
)
def test_all_entry_formats_of_docker_login_are_read(
    config: Path, entry: dict[str, str], credential: Credential
) -> None:
    assert _read(config, {"auths": {"ghcr.io": entry}}).for_registry("ghcr.io") == credential


def test_missing_file_means_anonymous_access(config: Path) -> None:
    assert Credentials.from_docker_config(config).for_registry("ghcr.io") is None


@pytest.mark.parametrize(
    "document",
    [
        {"auths": {"ghcr.io": {}}, "credsStore": "desktop"},
        {"auths": {}, "credHelpers": {"ghcr.io": "helper"}},
        {"credHelpers": {"ghcr.io": "helper"}},
    ],
)
def test_credential_helper_is_reported_when_its_registry_is_used(config: Path, document: Any) -> None:
    credentials = _read(config, document)

    assert credentials.for_registry("other.example") is None
    with pytest.raises(WrongCredentials, match=r"credential helper stores the credentials of ghcr\.io"):
        credentials.for_registry("ghcr.io")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "must contain a JSON object"),
        ('{"auths": ["s3cret"]}', "must be objects"),
        ('{"auths": {"ghcr.io": "s3cret"}}', "must be an object"),
        ('{"auths": {"ghcr.io": {"auth": "s3cret"}}}', "base64 of user:password"),
        ('{"auths": {"ghcr.io": {"auth": "s3cr"}}}', "base64 of user:password"),
        ('{"auths": {"ghcr.io": {"username": "s3cret"}}}', "no user or password"),
        ('{"auths": {"ghcr.io": {"username": "fleet", "password": ["s3cret"]}}}', "must contain strings"),
    ],
)
def test_errors_name_the_file_and_contain_no_secret(config: Path, text: str, message: str) -> None:
    config.write_text(text)

    with pytest.raises(CredentialsError, match=message) as refusal:
        Credentials.from_docker_config(config).for_registry("ghcr.io")

    assert str(config) in str(refusal.value)
    assert "s3cr" not in str(refusal.value)


def test_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="cannot be read"):
        Credentials.from_docker_config(tmp_path).for_registry("ghcr.io")


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        ("other.example", {"auth": "no base64"}),
        ("other.example", "s3cret"),
        ("other.example", {}),
        ("not a registry", {"auth": _encode("fleet:pass")}),
        ("https://", {"auth": _encode("fleet:pass")}),
        ("[", {}),
    ],
)
def test_invalid_entry_affects_only_its_own_registry(config: Path, key: str, entry: Any) -> None:
    credentials = _read(config, {"auths": {key: entry, "ghcr.io": {"auth": _encode("fleet:pass")}}})

    assert credentials.for_registry("ghcr.io") == Credential("fleet", "pass")
    assert credentials.for_registry("quay.io") is None


def test_tokens_of_the_web_login_are_not_used_as_passwords(config: Path) -> None:
    hub = "https://index.docker.io/v1/"
    keys = {f"{hub}access-token": "fleet:eyJhbGciOi", hub: "fleet:dckr_pat", f"{hub}refresh-token": "fleet:v1.MRqa"}

    credentials = _read(config, {"auths": {key: {"auth": _encode(text)} for key, text in keys.items()}})

    assert credentials.for_registry("docker.io") == Credential("fleet", "dckr_pat")


def test_representation_contains_no_secrets(config: Path) -> None:
    credentials = _read(config, {"auths": {"ghcr.io": {"username": "fleet", "password": "s3cret"}}})

    assert repr(credentials) == "Credentials(['ghcr.io'])"
    assert repr(credentials.for_registry("ghcr.io")) == "Credential()"
    assert repr(Credential("fleet", "s3cret", "s3cret")) == "Credential()"
