"""The key of a witness: the cosignature of the reference, and how it is kept."""

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.witness.identity import Identity, draw_identity, read_identity
from tests.gateway.witness.signed_log import SignedLog
from vault.errors import StartRefused
from vault.ledger.note import VerifierKey, verified

NAME = "witness.example/w1"
SEED = bytes(range(0x20, 0x40))
VKEY = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X"
COSIGNATURE = (
    "\u2014 witness.example/w1 IDJKvgAAAABpUkfATaYB0n/7W3Z7Np0cslkDrLNcBR0kmSLywXWv5H+AV7iyf6qeR92"
    "F3dswvPinTzP5g8ifcg8S0sFHSJqhuw+4BA==\n"
)
NOTE = SignedLog.of_size(3).note()


def test_the_cosignature_of_the_reference() -> None:
    identity = Identity(NAME, SEED)
    assert identity.key.text == VKEY
    assert identity.cosign(NOTE.text, 1767000000).line == COSIGNATURE


def test_a_cosignature_is_what_the_specification_says_byte_for_byte() -> None:
    """Checked with nothing of ours: key id, time, message and signature by hand."""
    line = Identity(NAME, SEED).cosign(NOTE.text, 1767000000).line
    dash, name, encoded = line.rstrip("\n").split(" ")
    raw = base64.b64decode(encoded)
    typed_key = base64.b64decode(VKEY.split("+", 2)[2])
    assert (dash, name, len(raw)) == ("\u2014", NAME, 4 + 8 + 64)
    assert raw[:4] == hashlib.sha256(NAME.encode() + b"\n" + typed_key).digest()[:4]
    assert int.from_bytes(raw[4:12]) == 1767000000
    public_key = Ed25519PublicKey.from_public_bytes(typed_key[1:])
    message = b"cosignature/v1\ntime 1767000000\n" + NOTE.text.encode()
    public_key.verify(raw[12:], message)
    with pytest.raises(InvalidSignature):
        public_key.verify(raw[12:], message + b"\n")
    (found,) = verified(NOTE.with_signatures([Identity(NAME, SEED).cosign(NOTE.text, 7)]), [
        VerifierKey.parse(VKEY)
    ])  # fmt: skip
    assert found.at == 7


def test_a_key_is_drawn_once_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    drawn = draw_identity(path, NAME)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_identity(path, NAME).key == drawn.key
    assert draw_identity(tmp_path / "other", NAME).key != drawn.key
    assert list(tmp_path.glob("*.new")) == []


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a\nb", "x" * 256, "\u2003"])
def test_a_name_that_no_key_may_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StartRefused):
        draw_identity(tmp_path / "key", name)
    assert list(tmp_path.iterdir()) == []


def test_a_key_signs_under_its_own_name_only(tmp_path: Path) -> None:
    draw_identity(tmp_path / "key", NAME)
    with pytest.raises(StartRefused, match="signs as"):
        read_identity(tmp_path / "key", "witness.example/w2")


def test_a_damaged_key_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "key"
    draw_identity(path, NAME)
    content = path.read_text()
    for damaged in [
        "",
        content[:-10],
        content.replace("PRIVATE", "PUBLIC"),
        content.replace(NAME, "witness.example/w2"),
        "+A".join(content.rsplit("+B", 1)),  # of another kind
        "\xff",
    ]:
        path.write_text(damaged, "latin-1")
        for name in (NAME, "witness.example/w2"):
            with pytest.raises(StartRefused) as refused:
                read_identity(path, name)
            assert content.rsplit("+", 1)[1].strip() not in str(refused.value)
    with pytest.raises(StartRefused):
        read_identity(tmp_path / "none", NAME)
