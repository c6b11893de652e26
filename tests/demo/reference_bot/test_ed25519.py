"""Signatures: the vectors of RFC 8032, and comparison with a library."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.reference_bot.ed25519 import verify

ORDER = 2**252 + 27742317777372353535851937790883648493
VECTORS = {
    "test 1": (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    "test 2": (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    "test 3": (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
    "test SHA(abc)": (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").hexdigest(),
        (
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
            "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"
        ),
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_of_the_standard_are_valid(name: str) -> None:
    key, message, signature = (bytes.fromhex(text) for text in VECTORS[name])
    assert verify(key, message, signature)
    assert not verify(key, message + b"x", signature)
    for index in range(0, 64, 7):
        assert not verify(key, message, signature[:index] + bytes([signature[index] ^ 1]) + signature[index + 1 :])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200), flip=st.none() | st.integers(0, 511)
)
def test_signatures_are_judged_as_by_a_library(seed: bytes, message: bytes, flip: int | None) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    key, signature = private.public_key().public_bytes_raw(), private.sign(message)
    if flip is not None:
        signature = (int.from_bytes(signature) ^ 1 << flip).to_bytes(64)
    assert verify(key, message, signature) == is_valid_for_library(key, message, signature) == (flip is None)


@pytest.mark.parametrize("encoded", [2, 2**255 - 19, 2**256 - 1])
def test_a_key_or_commitment_that_is_no_point_is_invalid(encoded: int) -> None:
    key, message, signature = (bytes.fromhex(text) for text in VECTORS["test 1"])
    no_point = encoded.to_bytes(32, "little")
    assert not verify(no_point, message, signature)
    assert not verify(key, message, no_point + signature[32:])


def test_a_signature_has_one_form() -> None:
    private = Ed25519PrivateKey.generate()
    key, signature = private.public_key().public_bytes_raw(), private.sign(b"message")
    other = (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
    assert not verify(key, b"message", signature[:32] + other)


def test_wrong_lengths_are_invalid() -> None:
    key, message, signature = (bytes.fromhex(text) for text in VECTORS["test 1"])
    for wrong_key in (b"", key[:-1], key + b"\0"):
        assert not verify(wrong_key, message, signature)
    for wrong_signature in (b"", signature[:-1], signature + b"\0"):
        assert not verify(key, message, wrong_signature)


def is_valid_for_library(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the library accepts a signature."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True
