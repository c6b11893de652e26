"""Tests of the password policy."""

from string import printable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.rules.password_policy import MAX_LENGTH, MIN_LENGTH, find_problem

NAMES = ("Flotilla", "alice.liddell@wonderland.example", "Alice Liddell")


@pytest.mark.parametrize(
    "password",
    [
        "tree lamp river stone",
        "a long and boring password",
        "日本語の長い合言葉は覚えやすいものだ",
        "xkq-vhz-82m-pdw-t",
        "  leading and trailing  ",
        "🐙🦑🐡🦐🐚🪸🦀🐟🐠🦈🐬🐳🐋🦭🐊",
        "tree lamp river stone " * 3,
        "the weather on the other river",
    ],
)
def test_long_unguessable_passwords_are_accepted(password: str) -> None:
    assert find_problem(password, names=NAMES) is None


def test_too_short_and_too_long_passwords_are_refused() -> None:
    assert "15 characters or more" in str(find_problem("tree lamp rive"))
    assert find_problem("tree lamp river") is None
    long = "".join(chr(0x4E00 + 7 * number) for number in range(MAX_LENGTH + 1))
    assert "256 characters or fewer" in str(find_problem(long))
    assert find_problem(long[:64]) is None
    assert find_problem(long[:-1]) is None


@pytest.mark.parametrize(
    "password",
    [
        "passwordpassword",
        "P@ssw0rd1234567!",
        "aaaaaaaaaaaaaaaa",
        "xyxyxyxyxyxyxyxyxy",
        "123456789012345",
        "qwertyuiop123456789",
        "Summer2025Winter2026",
        "letmeinletmeinplease",
        "correct horse battery staple",
        "Flotilla-Flotilla-1",
        "alice.liddell@99",
        "Wonderland!!!Alice",
        "                ",
    ],
)
def test_long_but_guessable_passwords_are_refused(password: str) -> None:
    assert "easy to guess" in str(find_problem(password, names=NAMES))


@pytest.mark.parametrize(
    "password",
    [
        "treelamptreelamp",
        "TreeLamp treelamp!",
        "aabcdefgaabcdefg",
        "xkqv1xkqv2xkqv3xkqv4",
        "river.stone.river.stone",
        "abzq-summer-abzq-2025",
        "日本語合言葉日本語合言葉日本語合言葉",
    ],
)
def test_repeated_parts_do_not_make_a_password_longer(password: str) -> None:
    assert "easy to guess" in str(find_problem(password))


@given(st.text(printable, min_size=1, max_size=MIN_LENGTH - 1), st.integers(2, 20))
def test_repetitions_of_a_short_password_are_refused(part: str, number: int) -> None:
    assert find_problem(part * number) is not None


@given(st.text(min_size=MIN_LENGTH, max_size=MAX_LENGTH))
def test_all_characters_are_allowed(password: str) -> None:
    problem = find_problem(password)
    assert problem is None or "easy to guess" in problem
