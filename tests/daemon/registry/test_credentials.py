from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from daemon.registry.credentials import Credential, Credentials, CredentialsError
from daemon.registry.errors import WrongCredentials


def _auth(text: str) -> str:
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
def test_keys_are_registries_however_they_are_spelled(config: Path, key: str, registry: str) -> None:
    credentials = _read(config, {"auths": {key: {"auth": _auth("fleet:pass")}}})

    assert credentials.for_registry(registry) == Credential("fleet", "pass")
    assert credentials.for_registry("other.example") is None


@pytest.mark.parametrize(
    ("entry", "credential"),
    [
        ({"auth": _auth("fleet:a:b")}, Credential("fleet", "a:b")),
        ({"auth": _auth("fleet:päss")}, Credential("fleet", "päss")),
        ({"auth": _auth("fleet:pass\0\0")}, Credential("fleet", "pass")),
        ({"username": "fleet", "password": "pass"}, Credential("fleet", "pass")),
        (
            {"auth": _auth("00000000-0000-0000-0000-000000000000:"), "identitytoken": "token"},
            Credential("00000000-0000-0000-0000-000000000000", "", "token"),
        ),
        ({"identitytoken": "token"}, Credential("", "", "token")),
    ],
)
def test_the_ways_docker_login_writes_them(config: Path, entry: dict[str, str], credential: Credential) -> None:
    assert _read(config, {"auths": {"ghcr.io": entry}}).for_registry("ghcr.io") == credential


def test_without_a_file_access_is_anonymous(config: Path) -> None:
    assert Credentials.from_docker_config(config).for_registry("ghcr.io") is None


@pytest.mark.parametrize(
    "document",
    [
        {"auths": {"ghcr.io": {}}, "credsStore": "desktop"},
        {"auths": {}, "credHelpers": {"ghcr.io": "helper"}},
        {"credHelpers": {"ghcr.io": "helper"}},
    ],
)
def test_what_a_helper_keeps_is_refused_when_it_is_needed(config: Path, document: Any) -> None:
    credentials = _read(config, document)

    assert credentials.for_registry("other.example") is None
    with pytest.raises(WrongCredentials, match=r"ghcr\.io are kept by a credential helper"):
        credentials.for_registry("ghcr.io")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not valid JSON"),
        ("[]", "must hold a JSON object"),
        ('{"auths": ["s3cret"]}', "must be objects"),
        ('{"auths": {"ghcr.io": "s3cret"}}', "must be an object"),
        ('{"auths": {"ghcr.io": {"auth": "s3cret"}}}', "base64 of user:password"),
        ('{"auths": {"ghcr.io": {"auth": "s3cr"}}}', "base64 of user:password"),
        ('{"auths": {"ghcr.io": {"username": "s3cret"}}}', "no user and password"),
        ('{"auths": {"ghcr.io": {"username": "fleet", "password": ["s3cret"]}}}', "must hold strings"),
    ],
)
def test_complaints_name_the_file_and_no_secret(config: Path, text: str, complaint: str) -> None:
    config.write_text(text)

    with pytest.raises(CredentialsError, match=complaint) as refusal:
        Credentials.from_docker_config(config).for_registry("ghcr.io")

    assert str(config) in str(refusal.value)
    assert "s3cr" not in str(refusal.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="cannot be read"):
        Credentials.from_docker_config(tmp_path).for_registry("ghcr.io")


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        ("other.example", {"auth": "no base64"}),
        ("other.example", "s3cret"),
        ("other.example", {}),
        ("not a registry", {"auth": _auth("fleet:pass")}),
        ("https://", {"auth": _auth("fleet:pass")}),
        ("[", {}),
    ],
)
def test_an_odd_entry_is_the_trouble_of_its_own_registry_only(config: Path, key: str, entry: Any) -> None:
    credentials = _read(config, {"auths": {key: entry, "ghcr.io": {"auth": _auth("fleet:pass")}}})

    assert credentials.for_registry("ghcr.io") == Credential("fleet", "pass")
    assert credentials.for_registry("quay.io") is None


def test_what_a_web_login_keeps_for_itself_is_no_password(config: Path) -> None:
    hub = "https://index.docker.io/v1/"
    keys = {f"{hub}access-token": "fleet:eyJhbGciOi", hub: "fleet:dckr_pat", f"{hub}refresh-token": "fleet:v1.MRqa"}

    credentials = _read(config, {"auths": {key: {"auth": _auth(text)} for key, text in keys.items()}})

    assert credentials.for_registry("docker.io") == Credential("fleet", "dckr_pat")


def test_secrets_do_not_show(config: Path) -> None:
    credentials = _read(config, {"auths": {"ghcr.io": {"username": "fleet", "password": "s3cret"}}})

    assert repr(credentials) == "Credentials(['ghcr.io'])"
    assert repr(credentials.for_registry("ghcr.io")) == "Credential()"
    assert repr(Credential("fleet", "s3cret", "s3cret")) == "Credential()"
