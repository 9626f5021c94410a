"""Policies as C2SP tlog-policy has them: which notes are believed, and which files are none."""

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
    Note,
    NoteRefused,
    Signature,
    VerifierKey,
    parse_note,
    parse_signatures,
    subtree_message,
)
from vault.ledger.policy import Group, Policy, PolicyLog, PolicyWitness, parse_policy

NOTE = parse_note(golden.NOTE_3)
COSIGNED = NOTE.with_signatures(parse_signatures(golden.COSIGNATURE_3.encode()))
LOG = VerifierKey.parse(golden.LOG_KEY)
WITNESS = VerifierKey.parse(golden.WITNESS_KEY)
LOG_LINE = f"log {golden.LOG_KEY}\n"

PRIVATE_KEYS = {
    f"w{number}": Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    for number in range(1, 41)
}
KEYS = {
    name: VerifierKey(f"{name}.example", COSIGNATURE, key.public_key().public_bytes_raw())
    for name, key in PRIVATE_KEYS.items()
}


def witness_lines(*names: str) -> str:
    return "".join(f"witness {name} {KEYS[name].text}\n" for name in names)


def cosigned_by(*names: str, at: int = 7) -> Note:
    message = cosigned_text(NOTE.text, at)
    return NOTE.with_signatures(
        cosignature(KEYS[name].name, KEYS[name].public_key, at, PRIVATE_KEYS[name].sign(message))
        for name in names
    )


def believes(policy: Policy, note: Note) -> bool:
    try:
        policy.check(note)
    except NoteRefused:
        return False
    return True


def test_a_policy() -> None:
    policy = parse_policy(
        "# who must have seen it\n"
        f"log {golden.LOG_KEY} https://ledger.example/gateway-1\n"
        "\n"
        f"  witness\tw {golden.WITNESS_KEY} \t https://witness.example/w1\t\n"
        "\t# a group of one\n"
        "group g all w\n"
        "quorum g"
    )
    assert policy == Policy(
        (PolicyLog(LOG, "https://ledger.example/gateway-1"),),
        {"w": PolicyWitness(WITNESS, "https://witness.example/w1")},
        {"g": Group(1, ("w",))},
        "g",
    )
    agreement = policy.check(COSIGNED)
    assert agreement.checkpoint.root == golden.ROOT_3
    assert agreement.log_key == LOG
    assert agreement.witnesses == {"w": golden.COSIGNED_AT}


@pytest.mark.guards("T-60")
def test_the_log_alone_is_not_believed_where_a_witness_is_asked_for() -> None:
    alone = parse_policy(LOG_LINE + "quorum none\n")
    assert alone.check(NOTE).witnesses == {}
    witnessed = parse_policy(f"{LOG_LINE}witness w {golden.WITNESS_KEY}\nquorum w\n")
    with pytest.raises(NoteRefused, match="did not cosign"):
        witnessed.check(NOTE)
    assert believes(witnessed, COSIGNED)
    unasked = parse_policy(f"{LOG_LINE}witness w {golden.WITNESS_KEY}\nquorum none\n")
    assert unasked.check(COSIGNED).witnesses == {"w": golden.COSIGNED_AT}


@pytest.mark.guards("T-60")
def test_witnesses_are_not_believed_without_the_log() -> None:
    policy = parse_policy(f"{LOG_LINE}witness w {golden.WITNESS_KEY}\nquorum w\n")
    with pytest.raises(NoteRefused, match="no log"):
        policy.check(Note(COSIGNED.text, COSIGNED.signatures[1:]))
    with pytest.raises(NoteRefused):
        parse_policy(f"witness w {golden.WITNESS_KEY}\nquorum w\n").check(COSIGNED)


@pytest.mark.guards("T-60")
def test_a_log_speaks_only_for_itself() -> None:
    """Another log of the policy cannot sign what has this log's origin."""
    private_key = PRIVATE_KEYS["w1"]
    other = VerifierKey("other.example", ED25519, private_key.public_key().public_bytes_raw())
    policy = parse_policy(f"{LOG_LINE}log {other.text}\nquorum none\n")
    line = Signature(other.name, other.key_id, private_key.sign(NOTE.text.encode()))
    assert believes(policy, NOTE.with_signatures([line]))
    with pytest.raises(NoteRefused):
        policy.check(Note(NOTE.text, (line,)))
    text = NOTE.text.replace(golden.ORIGIN, other.name)
    line = Signature(other.name, other.key_id, private_key.sign(text.encode()))
    assert policy.check(Note(text, (line,))).log_key == other


@pytest.mark.guards("T-60")
def test_a_forged_cosignature_is_refused_even_where_it_is_not_needed() -> None:
    policy = parse_policy(f"{LOG_LINE}{witness_lines('w1', 'w2')}group g any w1 w2\nquorum g\n")
    forged = cosigned_by("w1").with_signatures(
        [Signature(KEYS["w2"].name, KEYS["w2"].key_id, bytes(72))]
    )
    assert not believes(policy, forged)


@pytest.mark.parametrize("needed", ["any", "1", "2", "3", "4", "all"])
def test_a_group_needs_so_many(needed: str) -> None:
    names = ("w1", "w2", "w3", "w4")
    policy = parse_policy(
        f"{LOG_LINE}{witness_lines(*names)}group g {needed} {' '.join(names)}\nquorum g\n"
    )
    count = {"any": 1, "all": 4}.get(needed) or int(needed)
    for cosigned in range(5):
        assert believes(policy, cosigned_by(*names[4 - cosigned :][:cosigned])) == (
            cosigned >= count
        )


def test_groups_of_groups() -> None:
    """The example of the specification: two of one organization, and any of another."""
    policy = parse_policy(
        LOG_LINE
        + witness_lines("w1", "w2", "w3", "w4", "w5", "w6")
        + "group X-witnesses 2 w1 w2 w3\n"
        + "group Y-witnesses any w4 w5 w6\n"
        + "group X-and-Y all X-witnesses Y-witnesses\n"
        + "quorum X-and-Y\n"
    )
    assert believes(policy, cosigned_by("w1", "w3", "w6"))
    assert believes(policy, cosigned_by("w1", "w2", "w3", "w4", "w5"))
    assert not believes(policy, cosigned_by("w1", "w2", "w3"))
    assert not believes(policy, cosigned_by("w1", "w4", "w5", "w6"))
    assert not believes(policy, cosigned_by("w4"))


def test_a_group_counts_only_its_members() -> None:
    policy = parse_policy(f"{LOG_LINE}{witness_lines('w1', 'w2', 'w3')}group g 2 w1 w2\nquorum g\n")
    assert not believes(policy, cosigned_by("w1", "w3"))
    assert believes(policy, cosigned_by("w2", "w1"))


def test_more_than_the_specification_asks_for() -> None:
    names = list(KEYS)
    logs = "".join(
        f"log {VerifierKey(f'log.example/{name}', ED25519, key.public_key).text}\n"
        for name, key in KEYS.items()
    )
    groups = "".join(f"group g{name} all {name}\n" for name in names)
    policy = parse_policy(
        f"{LOG_LINE}{logs}{witness_lines(*names)}{groups}"
        f"group every all {' '.join('g' + name for name in names)}\nquorum every\n"
    )
    assert len(policy.logs) == 41
    assert len(policy.groups) == 41
    assert believes(policy, cosigned_by(*names))
    assert not believes(policy, cosigned_by(*names[1:]))


def test_post_quantum_logs_and_witnesses() -> None:
    private_keys = [MLDSA44PrivateKey.from_seed_bytes(bytes([number]) * 32) for number in (1, 2)]
    log, witness = (
        VerifierKey(name, COSIGNATURE_ML_DSA, key.public_key().public_bytes_raw())
        for name, key in zip((golden.ORIGIN, "witness.example/pq"), private_keys, strict=True)
    )
    lines = [
        Signature(
            key.name,
            key.key_id,
            bytes(8) + private_key.sign(subtree_message(key.name, NOTE.text, 0)),
        )
        for key, private_key in zip((log, witness), private_keys, strict=True)
    ]
    policy = parse_policy(f"log {log.text}\nwitness w {witness.text}\nquorum w\n")
    agreement = policy.check(Note(NOTE.text, tuple(lines)))
    assert (agreement.log_key, agreement.witnesses) == (log, {"w": 0})


def test_names_are_opaque() -> None:
    """A Kelvin sign is no K, and a no-break space is a part of a name."""
    policy = parse_policy(
        f"{LOG_LINE}witness K {KEYS['w1'].text}\nwitness \u212a {KEYS['w2'].text}\n"
        f"witness a\u00a0b {KEYS['w3'].text}\nwitness \udcff {KEYS['w4'].text}\n"
        "group any all K \u212a\ngroup all any a\u00a0b \udcff\ngroup 2 all any all\nquorum 2\n"
    )
    assert set(policy.witnesses) == {"K", "\u212a", "a\u00a0b", "\udcff"}
    assert believes(policy, cosigned_by("w1", "w2", "w4"))
    assert not believes(policy, cosigned_by("w1", "w3", "w4"))


AS_WITNESS = VerifierKey(golden.ORIGIN, COSIGNATURE, LOG.public_key).text
AS_LOG = VerifierKey("witness.example/w1", ED25519, WITNESS.public_key).text
RENAMED_LOG = VerifierKey("other.example", ED25519, LOG.public_key).text
RENAMED_WITNESS = VerifierKey("other.example", COSIGNATURE, WITNESS.public_key).text
W1, W2 = witness_lines("w1"), witness_lines("w2")


@pytest.mark.parametrize(
    "text",
    [
        "",
        LOG_LINE,
        LOG_LINE + "quorum\n",
        LOG_LINE + "quorum none none\n",
        LOG_LINE + "quorum none\nquorum none\n",
        LOG_LINE + "quorum nobody\n",
        LOG_LINE + "Quorum none\n",
        LOG_LINE + "quorum none # a comment\n",
        LOG_LINE + "quorum w1\n" + W1,
        "log\nquorum none\n",
        "log x\nquorum none\n",
        LOG_LINE + LOG_LINE + "quorum none\n",
        LOG_LINE + f"log {RENAMED_LOG}\nquorum none\n",
        LOG_LINE.replace("\n", " https://ledger.example more\n") + "quorum none\n",
        f"log {AS_WITNESS}\nquorum none\n",
        f"witness w {AS_LOG}\nquorum w\n",
        f"witness w {golden.WITNESS_KEY}\nwitness v {golden.WITNESS_KEY}\nquorum w\n",
        f"witness w {golden.WITNESS_KEY}\nwitness v {RENAMED_WITNESS}\nquorum w\n",
        f"witness none {golden.WITNESS_KEY}\nquorum none\n",
        f"witness {golden.WITNESS_KEY}\nquorum none\n",
        W1 + W1.replace("w1.example", "w9.example") + "quorum w1\n",
        W1 + W2.replace("witness w2", "witness w1") + "quorum w1\n",
        W1 + "group g\nquorum w1\n",
        W1 + "group g any\nquorum w1\n",
        W1 + "group g some w1\nquorum w1\n",
        W1 + "group g 0 w1\nquorum w1\n",
        W1 + "group g 2 w1\nquorum w1\n",
        W1 + "group g 01 w1\nquorum w1\n",
        W1 + "group g -1 w1\nquorum w1\n",
        W1 + "group g all none\nquorum w1\n",
        W1 + "group g all w1 w1\nquorum w1\n",
        W1 + "group g all w1\ngroup h all w1\nquorum w1\n",
        W1 + "group g all w1\ngroup h all g\ngroup i all g\nquorum w1\n",
        W1 + "group g all g\nquorum w1\n",
        W1 + "group w1 all w1\nquorum w1\n",
        W1 + "group none all w1\nquorum none\n",
        W1 + W2 + "group g all w1\ngroup g all w2\nquorum g\n",
        W1 + "group g all w1 w2\n" + W2 + "quorum g\n",
        W1 + "mirror w1\nquorum w1\n",
        W1 + "quorum\u00a0w1\n",
        W1 + "quorum w1\r\n",
        "# \0\nquorum none\n",
        W1 + "# an old line's end\r\nquorum w1\n",
        W1 + "quorum w1\v\n",
        W1 + "quorum w1\x7f\n",
        "\ufeff" + W1 + "quorum w1\n",
        "#" * 1024 * 1024 + "\nquorum none\n",
    ],
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(NoteRefused):
        parse_policy(text)


def test_every_mutation_of_a_policy_is_refused_or_keeps_the_keys() -> None:
    text = f"{LOG_LINE}{W1}{W2}group g 2 w1 w2\nquorum g\n"
    known = {key.text for key in (LOG, KEYS["w1"], KEYS["w2"])}
    read = 0
    for mutated in mutations(text.encode()):
        try:
            policy = parse_policy(mutated.decode("utf-8", "surrogateescape"))
        except NoteRefused:
            continue
        read += 1
        assert {log.key.text for log in policy.logs} <= known
        assert {witness.key.text for witness in policy.witnesses.values()} <= known
    assert read


@given(st.text(max_size=80))
def test_anything_is_a_policy_or_refused(text: str) -> None:
    for candidate in (text, f"{LOG_LINE}{text}", f"witness {text}\nquorum none\n"):
        try:
            parse_policy(candidate)
        except NoteRefused:
            continue
