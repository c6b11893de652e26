"""Image allowlist: admitted and refused images, and invalid entries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.rules.allowlist import Allowlist, ImageNotAllowed
from portal.rules.references import InvalidReference, parse_reference


@pytest.mark.parametrize(
    ("entries", "image", "admitted"),
    [
        (["ghcr.io/acme"], "ghcr.io/acme/bot:1", True),
        (["ghcr.io/acme"], "ghcr.io/acme/team/bot", True),
        (["ghcr.io/acme"], "ghcr.io/acme", True),
        (["ghcr.io/acme/"], "GHCR.io/acme/bot", True),
        (["ghcr.io/acme"], "ghcr.io/acme-evil/bot", False),
        (["ghcr.io/acme"], "ghcr.io.evil.example/acme/bot", False),
        (["ghcr.io/acme"], "evil.example/ghcr.io/acme/bot", False),
        (["ghcr.io/acme/bot"], "ghcr.io/acme/bot2", False),
        (["ghcr.io"], "ghcr.io/anyone/bot", True),
        (["127.0.0.1:5000"], "127.0.0.1:5000/bot", True),
        (["127.0.0.1:5000"], "127.0.0.1:50001/bot", False),
        (["127.0.0.1"], "127.0.0.1:5000/bot", False),
        (["nginx"], "docker.io/library/nginx:1", True),
        (["docker.io"], "acme/bot", True),
        (["acme/bot"], "index.docker.io/acme/bot", True),
        (["other.example", "ghcr.io/acme"], "ghcr.io/acme/bot", True),
        ([], "ghcr.io/acme/bot", False),
        (["", "  "], "ghcr.io/acme/bot", False),
    ],
)
def test_images_are_admitted_by_registry_and_repository(entries: list[str], image: str, admitted: bool) -> None:
    assert Allowlist.parse(entries).admits(parse_reference(image)) is admitted


@given(st.from_regex(r"[a-z0-9][a-z0-9.-]{0,10}", fullmatch=True))
def test_a_repository_with_the_same_prefix_is_not_admitted(tail: str) -> None:
    try:
        other = parse_reference(f"ghcr.io/acme{tail}/bot")
    except InvalidReference:
        return

    assert not Allowlist.parse(["ghcr.io/acme"]).admits(other)


def test_the_error_names_image_setting_and_entries() -> None:
    allowlist = Allowlist.parse(["ghcr.io/acme"])

    allowlist.require(parse_reference("ghcr.io/acme/bot"))
    with pytest.raises(ImageNotAllowed, match=r"docker\.io/evil/bot.*FLEET_IMAGE_ALLOWLIST.*ghcr\.io/acme"):
        allowlist.require(parse_reference("evil/bot:1"))


@pytest.mark.parametrize("entry", ["ghcr.io/acme:1", "https://ghcr.io", "ghcr.io/acme/*", "*", "GHCR.io/Acme"])
def test_an_entry_that_is_not_a_repository_is_refused(entry: str) -> None:
    with pytest.raises(InvalidReference):
        Allowlist.parse([entry])
