"""The names of signing keys, byte for byte as C2SP signed-note has them."""

from base64 import b64decode

import pytest

from vault.ledger.note import key_id, verifier_key

ORIGIN = "ledger.example/gateway-1"
PUBLIC_KEY = bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8")


def test_the_golden_key() -> None:
    assert key_id(ORIGIN, PUBLIC_KEY).hex() == "0310466d"
    assert (
        verifier_key(ORIGIN, PUBLIC_KEY)
        == "ledger.example/gateway-1+0310466d+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
    )


def test_the_key_of_the_specification() -> None:
    text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    name, _, encoded = text.split("+", 2)
    assert verifier_key(name, b64decode(encoded)[1:]) == text


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(AssertionError):
        verifier_key(ORIGIN, bytes(length))
