"""Signed notes byte for byte as C2SP has them, and what is no note or not signed."""

from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tests.vault.ledger import golden
from tests.vault.ledger.mutations import mutations
from vault.ledger.checkpoint import cosignature, cosigned_text
from vault.ledger.note import (
    COSIGNATURE,
    COSIGNATURE_ML_DSA,
    ED25519,
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    Note,
    NoteRefused,
    Signature,
    Verified,
    VerifierKey,
    base64_bytes,
    decimal,
    key_id,
    key_name,
    parse_note,
    parse_signatures,
    signed,
    verified,
    verifier_key,
)

LOG = VerifierKey.parse(golden.LOG_KEY)
WITNESS = VerifierKey.parse(golden.WITNESS_KEY)
ML_DSA = MLDSA44PrivateKey.from_seed_bytes(bytes(range(64, 96)))
ML_DSA_WITNESS = VerifierKey(
    "witness.example/pq", COSIGNATURE_ML_DSA, ML_DSA.public_key().public_bytes_raw()
)
NOTE = parse_note(golden.NOTE_3)
COSIGNED = NOTE.with_signatures(parse_signatures(golden.COSIGNATURE_3.encode()))


def by_stranger(number: int) -> Signature:
    return Signature(f"stranger.example/{number}", bytes(4), bytes(64))


def test_the_golden_key() -> None:
    assert key_id(golden.ORIGIN, golden.LOG_PUBLIC_KEY).hex() == "0310466d"
    assert verifier_key(golden.ORIGIN, golden.LOG_PUBLIC_KEY) == golden.LOG_KEY
    assert VerifierKey(golden.ORIGIN, ED25519, golden.LOG_PUBLIC_KEY) == LOG
    assert LOG.key_id.hex() == "0310466d"
    assert golden.LOG_PRIVATE_KEY.public_key().public_bytes_raw() == golden.LOG_PUBLIC_KEY


def test_the_key_of_the_specification() -> None:
    key = VerifierKey.parse(golden.SPECIFICATION_KEY)
    assert key.text == golden.SPECIFICATION_KEY
    assert verifier_key(key.name, key.public_key) == golden.SPECIFICATION_KEY


def test_the_note_of_the_specification() -> None:
    note = parse_note(golden.SPECIFICATION_NOTE)
    assert note.text == "This is an example message.\n"
    key = VerifierKey.parse(golden.SPECIFICATION_KEY)
    assert verified(note, [LOG, key]) == (Verified(key, None),)
    assert note.raw == golden.SPECIFICATION_NOTE


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(AssertionError):
        verifier_key(golden.ORIGIN, bytes(length))


@pytest.mark.parametrize("kind", [0, 2, 3, 5, 7, 255])
def test_a_key_is_of_a_known_kind(kind: int) -> None:
    with pytest.raises(AssertionError):
        VerifierKey(golden.ORIGIN, kind, golden.LOG_PUBLIC_KEY)


@pytest.mark.parametrize("key", [LOG, WITNESS, ML_DSA_WITNESS], ids=["log", "v1", "ml-dsa"])
def test_a_key_is_read_as_it_is_written(key: VerifierKey) -> None:
    assert VerifierKey.parse(key.text) == key
    for mutated in mutations(key.text.encode()[:140]):
        text = mutated.decode("utf-8", "surrogateescape") + key.text[140:]
        with pytest.raises(NoteRefused):
            VerifierKey.parse(text)


def test_the_base64_of_a_key_may_hold_plus_signs() -> None:
    public_key = bytes(2) + b"\xfb\xef\xbe" * 10
    key = VerifierKey("a.example", ED25519, public_key)
    assert key.text.count("+") > 2
    assert VerifierKey.parse(key.text) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "++",
        golden.ORIGIN,
        golden.LOG_KEY.replace("0310466d", "0310466D"),
        golden.LOG_KEY.replace("0310466d", "0310466e"),
        golden.LOG_KEY.replace("0310466d", "310466d"),
        golden.LOG_KEY + "\n",
        golden.LOG_KEY + "+",
        golden.LOG_KEY.replace("/gateway", " /gateway"),
        "\ud800" + golden.LOG_KEY,
    ],
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(NoteRefused):
        VerifierKey.parse(text)


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\tb", "a\u00a0b", "a\u2003b", "a\u0085b", "a\x1fb", "\udc80"]
)
def test_what_is_no_name_of_a_key(name: str) -> None:
    with pytest.raises(NoteRefused):
        key_name(name)
    with pytest.raises(AssertionError):
        VerifierKey(name, ED25519, golden.LOG_PUBLIC_KEY)


def test_a_name_may_be_long_and_foreign() -> None:
    assert key_name("bücher.example/" + "x" * 239) == "bücher.example/" + "x" * 239
    with pytest.raises(NoteRefused):
        key_name("bücher.example/" + "x" * 240)


# --- base64 and numbers -------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["A", "AA", "AAA", "AA=", "AB==", "AAB=", "AA==\n", "AA== ", " AA==", "A A=", "AA==AA=="],
)
def test_base64_has_one_spelling(text: str) -> None:
    with pytest.raises(NoteRefused):
        base64_bytes(text)


@pytest.mark.parametrize("text", ["-_-_", "é===", "\u0660AAA", "\ud800AAA", "AAAA===="])
def test_base64_is_of_the_standard_alphabet(text: str) -> None:
    with pytest.raises(NoteRefused):
        base64_bytes(text)


@given(st.binary(max_size=100))
def test_base64_is_read_as_it_is_written(raw: bytes) -> None:
    assert base64_bytes(b64encode(raw).decode()) == raw


@pytest.mark.parametrize(
    "text",
    ["", "00", "01", "-1", "+1", "1_0", " 1", "1 ", "1\n", "0x1", "\u0661", "9" * 19, "1" * 5000],
)
def test_a_number_has_one_spelling(text: str) -> None:
    with pytest.raises(NoteRefused):
        decimal(text)


@given(st.integers(0, 2**63 - 1))
def test_a_number_is_read_as_it_is_written(number: int) -> None:
    assert decimal(str(number)) == number
    if number:
        with pytest.raises(NoteRefused):
            decimal(str(number + 2**63 - 1))


# --- the golden note ----------------------------------------------------------------------


def test_the_golden_note() -> None:
    assert NOTE.text == golden.CHECKPOINT_3
    assert NOTE.raw == golden.NOTE_3
    assert verified(NOTE, [LOG]) == (Verified(LOG, None),)
    raw_signature = golden.LOG_PRIVATE_KEY.sign(golden.CHECKPOINT_3.encode())
    line = signed(golden.CHECKPOINT_3, golden.ORIGIN, golden.LOG_PUBLIC_KEY, raw_signature)
    assert Note(golden.CHECKPOINT_3, (line,)).raw == golden.NOTE_3


def test_the_golden_cosignature() -> None:
    message = cosigned_text(golden.CHECKPOINT_3, golden.COSIGNED_AT)
    assert message == b"cosignature/v1\ntime 1767000000\n" + golden.CHECKPOINT_3.encode()
    raw_signature = golden.WITNESS_PRIVATE_KEY.sign(message)
    public_key = golden.WITNESS_PRIVATE_KEY.public_key().public_bytes_raw()
    line = cosignature(golden.WITNESS_NAME, public_key, golden.COSIGNED_AT, raw_signature)
    assert line.line == golden.COSIGNATURE_3
    assert VerifierKey(golden.WITNESS_NAME, COSIGNATURE, public_key) == WITNESS
    assert COSIGNED.raw == golden.NOTE_3 + golden.COSIGNATURE_3.encode()
    assert verified(COSIGNED, [WITNESS, LOG]) == (
        Verified(LOG, None),
        Verified(WITNESS, golden.COSIGNED_AT),
    )


def ml_dsa_cosignature(at: int, *, name: str = ML_DSA_WITNESS.name) -> Signature:
    """Written after the specification's structure, not with the code that is tested."""
    message = (
        b"subtree/v1\n\0"
        + (b"%c" % len(name) + name.encode())
        + at.to_bytes(8, "big")
        + (b"\x18" + b"ledger.example/gateway-1")
        + (b"\0" * 8 + b"\0" * 7 + b"\x03")
        + golden.ROOT_3
    )
    payload = at.to_bytes(8, "big") + ML_DSA.sign(message)
    return Signature(name, ML_DSA_WITNESS.key_id, payload)


@pytest.mark.parametrize("at", [0, 1, golden.COSIGNED_AT, 2**63 - 1])
def test_a_post_quantum_cosignature(at: int) -> None:
    note = NOTE.with_signatures([ml_dsa_cosignature(at)])
    assert verified(note, [ML_DSA_WITNESS]) == (Verified(ML_DSA_WITNESS, at),)
    assert parse_note(note.raw) == note


@pytest.mark.guards("T-60")
def test_a_post_quantum_cosignature_is_of_this_checkpoint_time_and_name() -> None:
    genuine = ml_dsa_cosignature(golden.COSIGNED_AT)
    later = (golden.COSIGNED_AT + 1).to_bytes(8) + genuine.payload[8:]
    renamed = ml_dsa_cosignature(golden.COSIGNED_AT, name="witness.example/xy").payload
    for payload in (later, renamed, genuine.payload[:-1], genuine.payload + b"\0", b"\0"):
        forged = Signature(ML_DSA_WITNESS.name, ML_DSA_WITNESS.key_id, payload)
        with pytest.raises(NoteRefused):
            verified(NOTE.with_signatures([forged]), [LOG, ML_DSA_WITNESS])
    other = Note(golden.CHECKPOINT_3.replace("\n3\n", "\n4\n"), (genuine,))
    with pytest.raises(NoteRefused):
        verified(other, [ML_DSA_WITNESS])
    with pytest.raises(NoteRefused, match="three lines"):
        verified(Note("This is no checkpoint.\n", (genuine,)), [ML_DSA_WITNESS])


def test_a_time_is_a_signed_number_of_seconds() -> None:
    at = 2**63
    raw_signature = golden.WITNESS_PRIVATE_KEY.sign(cosigned_text(golden.CHECKPOINT_3, at))
    line = cosignature(WITNESS.name, WITNESS.public_key, at, raw_signature)
    with pytest.raises(NoteRefused, match="out of range"):
        verified(NOTE.with_signatures([line]), [WITNESS])


# --- what is accepted, ignored, refused ---------------------------------------------------


def test_signatures_of_others_are_ignored() -> None:
    """Even such as share a name or an id with a known key."""
    known = NOTE.signatures[0]
    others = [
        Signature(known.name, b"\0\0\0\0", bytes(64)),
        Signature("other.example", known.key_id, b"\0"),
        by_stranger(1),
    ]
    note = Note(NOTE.text, (*others, known))
    assert verified(parse_note(note.raw), [WITNESS, LOG]) == (Verified(LOG, None),)


@pytest.mark.guards("T-60")
def test_a_note_that_nobody_known_signed_is_refused() -> None:
    for keys in ([], [WITNESS]):
        with pytest.raises(NoteRefused, match="no known key"):
            verified(NOTE, keys)


@pytest.mark.guards("T-60")
def test_one_bad_signature_of_a_known_key_spoils_the_note() -> None:
    log, witness = COSIGNED.signatures
    for good, bad in ((log, witness), (witness, log)):
        for payload, reason in (
            (bad.payload[:-1] + b"\xff", "genuine"),
            (bad.payload[:-1], "length"),
            (bad.payload + b"\0", "length"),
            (b"\0", "length"),
        ):
            forged = Note(NOTE.text, (good, Signature(bad.name, bad.key_id, payload)))
            with pytest.raises(NoteRefused, match=reason):
                verified(forged, [LOG, WITNESS])
    twice = Note(NOTE.text, (log, Signature(log.name, log.key_id, bytes(64))))
    with pytest.raises(NoteRefused, match="genuine"):
        verified(twice, [LOG])


@pytest.mark.guards("T-60")
def test_a_signature_is_of_its_kind() -> None:
    """A log's signature is not one of a witness with the same key, nor the reverse."""
    text = golden.CHECKPOINT_3
    as_witness = VerifierKey(golden.ORIGIN, COSIGNATURE, golden.LOG_PUBLIC_KEY)
    payload = golden.COSIGNED_AT.to_bytes(8) + golden.LOG_PRIVATE_KEY.sign(text.encode())
    with pytest.raises(NoteRefused, match="genuine"):
        verified(Note(text, (Signature(golden.ORIGIN, as_witness.key_id, payload),)), [as_witness])
    raw_signature = golden.LOG_PRIVATE_KEY.sign(cosigned_text(text, golden.COSIGNED_AT))
    with pytest.raises(NoteRefused, match="genuine"):
        signed(text, golden.ORIGIN, golden.LOG_PUBLIC_KEY, raw_signature)


def test_of_two_cosignatures_the_later_counts() -> None:
    def at(time: int) -> Signature:
        raw_signature = golden.WITNESS_PRIVATE_KEY.sign(cosigned_text(NOTE.text, time))
        return cosignature(WITNESS.name, WITNESS.public_key, time, raw_signature)

    for times in ((5, 7), (7, 5), (7, 7)):
        note = Note(NOTE.text, tuple(map(at, times)))
        assert verified(note, [WITNESS]) == (Verified(WITNESS, 7),)


def test_two_keys_of_one_name_and_id_cannot_be_told_apart() -> None:
    first, second = _colliding_keys()
    assert (first.name, first.key_id) == (second.name, second.key_id)
    with pytest.raises(NoteRefused, match="one name and id"):
        verified(NOTE, [LOG, first, second])
    assert verified(NOTE, [LOG, LOG]) == (Verified(LOG, None),)


def _colliding_keys() -> tuple[VerifierKey, VerifierKey]:
    """A search found them among the first 2^17: an id has only 32 bits."""
    return (
        VerifierKey("a", ED25519, (65_227).to_bytes(32)),
        VerifierKey("a", ED25519, (67_083).to_bytes(32)),
    )


def test_what_is_there_stays() -> None:
    log, witness = COSIGNED.signatures
    other = Signature(witness.name, witness.key_id, bytes(72))
    assert COSIGNED.with_signatures([log, witness, other]) == COSIGNED
    assert COSIGNED.with_signatures([by_stranger(1), by_stranger(1)]).signatures == (
        log,
        witness,
        by_stranger(1),
    )


def test_many_signatures_are_accepted_but_not_any_number() -> None:
    most = NOTE.with_signatures(map(by_stranger, range(SIGNATURES_MAX - 1)))
    assert len(most.signatures) == SIGNATURES_MAX > 16
    assert verified(parse_note(most.raw), [LOG]) == (Verified(LOG, None),)
    with pytest.raises(NoteRefused, match="too many"):
        parse_note(most.with_signatures([by_stranger(-1)]).raw)


def test_sixteen_post_quantum_signatures_are_accepted() -> None:
    large = NOTE.with_signatures(
        Signature(f"pq.example/{number}", bytes(4), bytes(5000)) for number in range(16)
    )
    assert parse_note(large.raw) == large


def test_a_note_is_not_endless() -> None:
    with pytest.raises(NoteRefused, match="too long"):
        parse_note(b"x" * (NOTE_BYTES_MAX - len(golden.NOTE_3) + 1) + golden.NOTE_3)
    fits = b"x" * (NOTE_BYTES_MAX - len(golden.NOTE_3)) + golden.NOTE_3
    assert parse_note(fits).raw == fits


def test_the_last_empty_line_is_before_the_signatures() -> None:
    for text in ("\n", "a\n\nb\n", "\n\n\n", "é\u2028\x7f\n", "\u2014 a.example AAAA\n"):
        note = Note(text, (by_stranger(1),))
        assert parse_note(note.raw) == note


LINE = by_stranger(1).line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n",
        "text\n",
        "text\n\n",
        "text\n" + LINE,
        "\n" + LINE,
        LINE,
        "text\n\n" + LINE.rstrip(),
        "text\n\n" + LINE + "\n",
        "text\n\n" + LINE + "x",
        "text\n\n" + LINE.replace("\n", "\r\n"),
        "te\rxt\n\n" + LINE,
        "te\0xt\n\n" + LINE,
        "te\txt\n\n" + LINE,
        "text\n\n " + LINE,
        "text\n\n" + LINE.replace("\u2014", "-"),
        "text\n\n" + LINE.replace("\u2014 ", "\u2014  "),
        "text\n\n" + LINE.replace("\u2014 ", "\u2014\u00a0"),
        "text\n\n" + LINE.replace("stranger", "stra+nger"),
        "text\n\n" + LINE.replace("stranger", "stra nger"),
        "text\n\n" + LINE.replace("stranger", "stra\u2009nger"),
        "text\n\n\u2014 a.example\n",
        "text\n\n\u2014 a.example \n",
        "text\n\n\u2014 a.example AAAAAA==\n",  # a key's id, and no signature
        "text\n\n\u2014  AAAAAAAA\n",
        "text\n\n\u2014 a.example AAAAAA0=\n x\n",
    ],
)
def test_what_is_no_note(text: str) -> None:
    with pytest.raises(NoteRefused):
        parse_note(text.encode())


@pytest.mark.parametrize("raw", [b"\xff\n\n", b"\xc0\xaf\n\n", b"\xed\xa0\x80\n\n"])
def test_a_note_is_utf8(raw: bytes) -> None:
    with pytest.raises(NoteRefused, match="UTF-8"):
        parse_note(raw + LINE.encode())


def test_signature_lines_alone() -> None:
    both = golden.COSIGNATURE_3 + LINE
    assert parse_signatures(both.encode()) == (COSIGNED.signatures[1], by_stranger(1))
    for text in ("", "\n", both.rstrip(), both + "\n", "\n" + both, golden.NOTE_3.decode()):
        with pytest.raises(NoteRefused):
            parse_signatures(text.encode())


@pytest.mark.guards("T-60")
def test_every_mutation_of_a_note_is_refused_or_leaves_what_was_signed() -> None:
    accepted = 0
    for mutated in mutations(COSIGNED.raw):
        try:
            note = parse_note(mutated)
            found = verified(note, [LOG, WITNESS])
        except NoteRefused:
            continue
        assert note.raw == mutated
        assert note.text == golden.CHECKPOINT_3
        assert len(found) == 1  # the other line became a stranger's
        accepted += 1
    assert accepted


keys = st.builds(
    lambda name, seed: (name, Ed25519PrivateKey.from_private_bytes(seed)),
    st.from_regex(r"[a-z]{1,9}\.example/[a-zé]{1,9}", fullmatch=True),
    st.binary(min_size=32, max_size=32),
)
texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), max_size=80
).map(lambda text: text + "\n")


@given(text=texts, signers=st.lists(keys, min_size=1, max_size=4, unique_by=lambda key: key[0]))
def test_a_note_is_read_as_it_is_written(
    text: str, signers: list[tuple[str, Ed25519PrivateKey]]
) -> None:
    lines = tuple(
        signed(text, name, key.public_key().public_bytes_raw(), key.sign(text.encode()))
        for name, key in signers
    )
    note = Note(text, lines)
    assert parse_note(note.raw) == note
    known = [
        VerifierKey(name, ED25519, key.public_key().public_bytes_raw()) for name, key in signers
    ]
    assert verified(note, known) == tuple(Verified(key, None) for key in known)
    with pytest.raises(NoteRefused):
        verified(Note(text + "x\n", lines), known)


@given(st.binary(max_size=200))
def test_anything_is_a_note_or_refused(raw: bytes) -> None:
    for candidate in (raw, raw + b"\n\n" + LINE.encode(), golden.NOTE_3 + raw):
        try:
            note = parse_note(candidate)
        except NoteRefused:
            continue
        assert note.raw == candidate


def test_a_refusal_quotes_nothing() -> None:
    for raw in (b"canary", b"canary\n\n\xe2\x80\x94 canary AAAA\n", b"canary\n\ncanary\n"):
        with pytest.raises(NoteRefused) as refused:
            parse_note(raw)
        assert "canary" not in str(refused.value)
        assert refused.value.__context__ is None
    with pytest.raises(NoteRefused) as refused:
        base64_bytes("canary!")
    assert "canary" not in str(refused.value)
    assert b64decode(golden.SIGNATURE_3)[:4] == LOG.key_id
