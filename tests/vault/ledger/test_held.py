"""Whose word on a head counts: pinned keys, a policy's, and those announced under them."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.vault.ledger.golden import LOG_PRIVATE_KEY, LOG_PUBLIC_KEY
from tests.vault.ledger.samples import ORIGIN, VKEY
from vault.ledger.checkpoint import Checkpoint, cosignature, cosigned_text
from vault.ledger.held import SignedHead, Source, Trust
from vault.ledger.note import COSIGNATURE, ED25519, Note, NoteRefused, VerifierKey, signed
from vault.ledger.policy import parse_policy

KEY = VerifierKey.parse(VKEY)


def head(size: int = 5, source: Source = Source.HELD) -> SignedHead:
    text = Checkpoint(ORIGIN, size, bytes(32)).text
    line = signed(text, ORIGIN, LOG_PUBLIC_KEY, LOG_PRIVATE_KEY.sign(text.encode()))
    return SignedHead.parse(Note(text, (line,)).raw, source)


def test_a_pinned_key() -> None:
    trust = Trust([KEY])
    assert trust.is_pinned
    assert trust.check(head()) == []
    trust.announce(0, VerifierKey(ORIGIN, ED25519, bytes(32)).text)
    assert list(trust.keys) == [KEY], "what the log says of itself adds nothing to a pin"


def test_nobody_is_believed_before_the_log_names_its_key() -> None:
    trust = Trust()
    assert not trust.is_pinned
    with pytest.raises(NoteRefused):
        trust.check(head())
    trust.announce(0, VKEY)
    trust.check(head())
    assert not trust.is_pinned


def test_a_key_of_another_log_is_not_this_ones() -> None:
    other = VerifierKey("ledger.example/other", ED25519, LOG_PUBLIC_KEY)
    with pytest.raises(NoteRefused):
        Trust([other]).check(head())


def test_a_policy_pins_and_its_quorum_is_asked_for_the_newest_head_only() -> None:
    witness = VerifierKey("w.example/1", 4, bytes(32))
    policy = parse_policy(f"log {VKEY}\nwitness w {witness.text}\nquorum w\n")
    trust = Trust(policy=policy)
    assert trust.is_pinned
    trust.check(head(source=Source.HELD))
    trust.check(head(source=Source.STORED))
    with pytest.raises(NoteRefused, match="witnesses"):
        trust.check(head(source=Source.LATEST))


@pytest.mark.parametrize("raw", [b"", b"x", head().note.raw[:-1], head().note.text.encode()])
def test_what_is_no_head(raw: bytes) -> None:
    with pytest.raises(NoteRefused):
        SignedHead.parse(raw, Source.HELD)


def test_a_witness_alone_is_not_the_log() -> None:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    witness = VerifierKey("w.example/1", COSIGNATURE, public)
    policy = parse_policy(f"log {VKEY}\nwitness w {witness.text}\nquorum w\n")
    text = head().note.text
    line = cosignature(witness.name, public, 9, private.sign(cosigned_text(text, 9)))
    alone = SignedHead.parse(Note(text, (line,)).raw, Source.HELD)
    with pytest.raises(NoteRefused):
        Trust(policy=policy).check(alone)
    both = SignedHead.parse(head().note.with_signatures([line]).raw, Source.LATEST)
    assert Trust(policy=policy).check(both) == [9]
