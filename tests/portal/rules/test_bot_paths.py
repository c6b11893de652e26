"""Paths: every spelling of `/internal` is closed, ambiguous ones are refused, all others pass."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portal.rules import bot_paths
from portal.rules.bot_paths import PathVerdict, check_target, is_local_path

CLOSED = """
/internal /internal/ /internal/members/add /internal?x=1 //internal ///internal//members /INTERNAL /InTeRnAl/x
/%69nternal /%49NTERNAL /intern%61l /%2569nternal /%252569nternal /internal;x=1 /internal;/members /;/internal
/;a=b/internal/x /internal%20/x /internal. /%EF%BD%89nternal /%C4%B1nternal /int%C2%ADernal /intern%C3%A1l
/internal%3Fx /internal%23x /%69%6e%74%65%72%6e%61%6c
//bot/internal ///bot//INTERNAL/x //;a/b/internal //u:p@bot/%69nternal
"""
MALFORMED = """
internal * http://bot/internal https://bot/ /a\\internal /a%2Finternal /%2finternal /%2Finternal /%252finternal
/a/%5Cinternal /%5cinternal /./internal /a/../internal /a/.. /.. /. /%2e/internal /a/%2e%2e/internal /a/.%2e/internal
/%252e%252e/internal /..;/internal /a/..;x=1/internal /%00internal /internal%00 /a%0d%0ax /a%7f /%c0%afinternal
/%e0%80%afinternal /%c0%ae%c0%ae/internal /%ff /%zz /% /a%2 /a#b /%EF%BC%8Finternal /%E2%80%A5/internal
/%u0069nternal /a%09b /%25252525252525252569
"""
FORWARDED = """
/ /? /notes /notes/ /notes?a=/../internal /a/internal /internals /internalize /api/v1/internal /x%20y /%C3%A9t%C3%A9
/a;b=c/d /files/report.v1.2.pdf /..a /a.. /... /~me /@scope /100%25 /notes?q=%zz /_next/static/a.js /a//b /%E2%9C%93
//a/b/internal /a//internal
"""


@pytest.mark.parametrize("target", CLOSED.split())
def test_internal_is_closed_in_every_spelling(target: str) -> None:
    assert check_target(target) is PathVerdict.CLOSED


@pytest.mark.parametrize("target", [*MALFORMED.split(), "", "/a b", "/é", "/a\x00", "/a\tb"])
def test_ambiguous_targets_are_malformed(target: str) -> None:
    assert check_target(target) is PathVerdict.MALFORMED


@pytest.mark.parametrize("target", FORWARDED.split())
def test_other_paths_are_forwarded(target: str) -> None:
    assert check_target(target) is PathVerdict.FORWARD


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """Draw a spelling of `/internal/…`: mixed case, characters encoded up to three times, slashes, parameters."""
    letters = []
    for letter in "internal":
        spelled = letter.upper() if draw(st.booleans()) else letter
        for _ in range(draw(st.integers(0, 3))):
            spelled = "".join(f"%{ord(character):02x}" for character in spelled[:1]) + spelled[1:]
        letters.append(spelled)
    before = draw(st.sampled_from(["/", "//", "/;x/", "/;/;a=1/", "///"]))
    after = draw(st.sampled_from(["", "/", "//members", ";v=1/members", "/members?x=1", "?x", "."]))
    return before + "".join(letters) + after


@given(spellings())
def test_no_spelling_of_internal_is_forwarded(target: str) -> None:
    assert check_target(target) is PathVerdict.CLOSED


@given(st.text(alphabet="/.%;\\?#abinterl25eEfFcC0 é\0", max_size=30).map(lambda text: "/" + text))
def test_a_forwarded_path_never_reaches_internal_by_any_usual_interpretation(target: str) -> None:
    if check_target(target) is not PathVerdict.FORWARD:
        return
    path = target.partition("?")[0]
    for _ in range(4):
        for candidate in (path, re.sub(r";[^/]*", "", path)):
            normalized = re.sub(r"/+", "/", candidate.replace("\\", "/").lower())
            assert not re.match(r"/internal($|/)", normalized)
            assert "/../" not in f"{normalized}/"
            assert "/./" not in f"{normalized}/"
        path = unquote(path)


@pytest.mark.parametrize("path", ["//evil.example/x", "https://evil.example", "/\\evil.example", "", "/a\r\nb", "x"])
def test_redirects_stay_on_the_host(path: str) -> None:
    assert not is_local_path(path)
    assert is_local_path("/notes?page=2")


@given(
    st.from_regex(r"(/(internal|INTERNAL|[a-zA-Z0-9_.-]{0,6})){0,4}/?", fullmatch=True).map(
        lambda path: f"/{path}"[:60]
    )
)
@example("/internal")
@example("/Internal/members")
@example("/internal.")
@example("/internal/.")
def test_the_short_check_of_plain_paths_agrees_with_the_complete_check(path: str) -> None:
    assert check_target(path) is bot_paths._check_unusual_path(path)
