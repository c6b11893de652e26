"""Boundaries of WebSocket frames: found in any division of the bytes, and given up in floods."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from portal.gateway import tunnel
from portal.gateway.tunnel import _FrameBoundaries

PAYLOADS = st.binary(max_size=10) | st.sampled_from([bytes(125), bytes(126), bytes(127), bytes(65535), bytes(65536)])
FRAMES = st.lists(st.tuples(PAYLOADS, st.booleans()), min_size=1, max_size=5)


def build_frame(payload: bytes, *, masked: bool) -> bytes:
    """Return a binary frame."""
    size, bit = len(payload), 0x80 if masked else 0
    if size < 126:
        length = bytes([bit | size])
    elif size < 65536:
        length = bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([bit | 127]) + size.to_bytes(8, "big")
    return b"\x82" + length + (b"mask" if masked else b"") + payload


@given(frames=FRAMES, cuts=st.lists(st.integers(0, 70_000), max_size=8))
def test_boundaries_are_found_in_any_division(frames: list[tuple[bytes, bool]], cuts: list[int]) -> None:
    built = [build_frame(payload, masked=masked) for payload, masked in frames]
    data, ends = b"".join(built), {sum(map(len, built[:count])) for count in range(len(built) + 1)}
    boundaries, position = _FrameBoundaries(), 0
    for cut in [*sorted(cuts), len(data)]:
        boundaries.feed(data[position:cut])
        position = max(position, min(cut, len(data)))
        assert boundaries.is_between_frames is (position in ends)


def test_a_flood_of_frames_is_not_followed() -> None:
    boundaries, known = _FrameBoundaries(), []
    for count in (tunnel._MAX_FRAMES_AT_ONCE, tunnel._MAX_FRAMES_AT_ONCE + 1, 1):
        boundaries.feed(b"\x82\x00" * count)
        known.append(boundaries.is_between_frames)
    assert known == [True, False, False]
