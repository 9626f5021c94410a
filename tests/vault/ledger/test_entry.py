"""Leaf bytes, which are final: the published leaf, every type's fields, and all that is refused."""

import json
import re
from dataclasses import replace as replaced
from typing import Any, TypeVar, get_args

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs

from tests.vault.ledger.any_leaf import any_leaf
from tests.vault.ledger.samples import (
    EVERYWHERE,
    FIELDS,
    ORIGIN,
    STAMP,
    VKEY,
    WRITER,
    full,
    new_token,
    new_uuid,
)
from vault.authorization import MAY_FOLLOW, Finding, Kind, Result, State
from vault.ledger.detail import commitment
from vault.ledger.entry import (
    ENTRY_BYTES_MAX,
    ERASED_MAX,
    TYPES,
    AccessDenied,
    Actor,
    AnyEntry,
    AuthorizationAttempted,
    AuthorizationCompleted,
    AuthorizationResolved,
    CallbackReceived,
    DetailErased,
    Draft,
    EdgeKeyCreated,
    EdgeKeyDestroyed,
    EntryRefused,
    EntryUnknown,
    KeyRotated,
    LogOpened,
    LogSealed,
    OfIntent,
    Opening,
    Stamp,
    TokenDeleted,
    TokenUpdated,
    canonical,
    decode,
    decode_draft,
    encode,
    encode_draft,
)
from vault.ledger.forms import INTEGER_MAX, ActorKind
from vault.ledger.tree import leaf_hash

TEST_LEAF = (
    b'{"actor":{"id":"k_4f8z","kind":"secret_key"},"attempt":1,'
    b'"boot":"01936b2e-0000-7000-8000-000000000001",'
    b'"detail":"2oClmaiU-Y7wjZ5d7jeR_I8oAc-JsEkJMRQ2p0bqV_c",'
    b'"id":"01936b2e-7c00-7abc-8def-0123456789ab",'
    b'"intent":"01936b2e-7c00-7abc-8def-0123456789ab","kind":"authorize","n":41,'
    b'"opens":[{"key":"pan","token":"pwt_test_0123456789abcdefghjkmnpqrsda","version":1}],'
    b'"operation":"payment_intents.confirm","replica":"r_7k2m9x4d-0","route":"stripe",'
    b'"tenant":"t_01","ts":"2026-01-02T03:04:05.678Z","type":"authorization.attempted","v":1}'
)
INTENT = "01936b2e-7c00-7abc-8def-0123456789ab"
TEST_DRAFT = AuthorizationAttempted(
    actor=Actor(id="k_4f8z", kind="secret_key"),
    id=INTENT,
    intent=INTENT,
    tenant="t_01",
    attempt=1,
    kind=Kind.AUTHORIZE,
    opens=(Opening(key="pan", token="pwt_test_0123456789abcdefghjkmnpqrsda", version=1),),
    operation="payment_intents.confirm",
    route="stripe",
    detail=commitment(
        bytes(range(32)), b'{"amount":1999,"currency":"EUR","merchant_reference":"order-1001"}'
    ),
)
by_type = pytest.mark.parametrize("draft", full(), ids=lambda draft: draft.type)


D = TypeVar("D", bound=Draft)


def of_type(entry_type: type[D]) -> D:
    return next(draft for draft in full() if isinstance(draft, entry_type))


def least(draft: Draft) -> Draft:
    """The same without what it may do without."""
    changes: dict[str, object] = {
        field.name: UNSET for field in structs.fields(draft) if field.default is UNSET
    }
    if isinstance(draft, AuthorizationAttempted):
        changes["attempt"] = 1
    if isinstance(draft, KeyRotated):
        changes["key"] = "pan"
    return structs.replace(draft, **changes)


# --- what is written ----------------------------------------------------------------------


def test_the_published_leaf() -> None:
    body = encode(TEST_DRAFT, STAMP)
    assert body == TEST_LEAF
    assert len(body) == 527
    assert (
        leaf_hash(body).hex() == "cdc2fd45711cee14a474c65d1cf3ea990f53b64c863f59943795655868ebec45"
    )


def test_every_type_is_known_once() -> None:
    assert set(TYPES) == set(FIELDS) == {draft.type for draft in full()}
    assert len(TYPES) == len(get_args(AnyEntry))


@by_type
def test_a_leaf_has_exactly_the_fields_of_its_type(draft: Draft) -> None:
    always, sometimes = FIELDS[draft.type]
    assert set(json.loads(encode(draft, STAMP))) == EVERYWHERE | always | sometimes
    assert set(json.loads(encode(least(draft), STAMP))) == EVERYWHERE | always


@by_type
def test_an_entry_survives_its_bytes(draft: Draft) -> None:
    for fresh in (draft, least(draft)):
        body = encode(fresh, STAMP)
        entry = decode(body)
        assert type(entry) is type(fresh)
        assert (entry.ts, entry.replica) == ("2026-01-02T03:04:05.678Z", STAMP.replica)
        assert (entry.boot, entry.n) == (STAMP.boot, STAMP.n)
        assert encode(entry, STAMP) == body
        assert rfc8785.dumps(json.loads(body)) == body


def test_the_first_attempt_opens_nothing_too() -> None:
    draft = structs.replace(least(of_type(AuthorizationAttempted)), opens=(), kind=Kind.CAPTURE)
    assert b'"opens":[]' in encode(draft, STAMP)


def test_largest_entry_fits() -> None:
    opens = (Opening(key="pan", token=new_token(), version=INTEGER_MAX),) * 32
    draft = structs.replace(
        of_type(AuthorizationAttempted), opens=opens, operation="o" * 64, route="r" * 64
    )
    assert len(encode(draft, replaced(STAMP, n=INTEGER_MAX))) < ENTRY_BYTES_MAX / 2


def test_intent_of_a_family() -> None:
    for draft in full():
        if isinstance(draft, OfIntent):
            assert draft.intent_id == draft.intent
            assert draft.type == f"{draft.family}.{draft.state}"
        else:
            assert draft.intent_id is None
    states = {known.state for known in TYPES.values() if issubclass(known, OfIntent)}
    assert states == set(MAY_FOLLOW) == set(State)


# --- what is never written ----------------------------------------------------------------

WRONG: list[tuple[type[Draft], str, object]] = [
    (TokenDeleted, "id", "01936B2E-7C00-7ABC-8DEF-0123456789AB"),
    (TokenDeleted, "id", "01936b2e-7c00-4abc-8def-0123456789ab"),  # not a UUIDv7
    (TokenDeleted, "id", "01936b2e-7c00-7abc-8def-0123456789ab\n"),
    (TokenDeleted, "id", ""),
    (TokenDeleted, "id", None),
    (TokenDeleted, "v", 2),
    (TokenDeleted, "v", True),
    (TokenDeleted, "tenant", "t_1"),
    (TokenDeleted, "tenant", "t_" + "0" * 27),
    (TokenDeleted, "tenant", "t_caf\u00e9"),
    (TokenDeleted, "tenant", "t_\ud800"),
    (TokenDeleted, "token", "pwt_test_" + "i" * 28),
    (TokenDeleted, "token", "pwt_prod_" + "0" * 28),
    (TokenDeleted, "token", b"pwt_test_" + b"0" * 28),
    (TokenDeleted, "reason", "because"),
    (TokenDeleted, "reason", 'used","x":"'),
    (TokenDeleted, "actor", Actor(id="k_" + "0" * 33, kind="secret_key")),
    (TokenDeleted, "actor", {"id": "none", "kind": "anonymous", "name": "x"}),
    (TokenUpdated, "changed", ()),
    (TokenUpdated, "changed", ("iin",)),
    (AuthorizationCompleted, "detail", "A" * 44),
    (AuthorizationCompleted, "detail", "A" * 42 + "B"),  # stray bits
    (AuthorizationCompleted, "detail", ""),
    (AuthorizationCompleted, "detail", None),
    (AuthorizationCompleted, "ms", 2**53),
    (AuthorizationCompleted, "ms", 2**70),
    (AuthorizationCompleted, "ms", -1),
    (AuthorizationCompleted, "ms", 1.0),
    (AuthorizationCompleted, "ms", float("nan")),
    (AuthorizationCompleted, "ms", True),
    (AuthorizationCompleted, "status", 99),
    (AuthorizationCompleted, "status", 1000),
    (AuthorizationCompleted, "result", "maybe"),
    (AuthorizationCompleted, "result", {1}),
    (AuthorizationAttempted, "attempt", 0),
    (AuthorizationAttempted, "route", "a b"),
    (AuthorizationAttempted, "route", ""),
    (AuthorizationAttempted, "route", "r" * 65),
    (AuthorizationAttempted, "opens", None),
    (AuthorizationAttempted, "opens", (Opening(key="pan", token=new_token(), version=0),)),
    (AuthorizationAttempted, "opens", (Opening(key="pan", token=new_token(), version=1),) * 33),
    (AuthorizationAttempted, "kind", "reveal"),
    (KeyRotated, "to_version", 2**53),
    (KeyRotated, "from_version", 0),
    (KeyRotated, "vkey", VKEY[:-1]),
    (KeyRotated, "vkey", None),
    (EdgeKeyCreated, "kid", "ek_0" + "0" * 24),
    (EdgeKeyCreated, "kid", "ek_8" + "0" * 25),  # of 130 bits
    (EdgeKeyCreated, "kid", "ek_0" + "L" * 25),
    (EdgeKeyDestroyed, "kid", "k_0" + "0" * 25),
    (EdgeKeyDestroyed, "kid", None),
    (DetailErased, "entries", ("1",)),
    (DetailErased, "entries", (-1, 1)),
    (DetailErased, "entries", (1, 2**53)),
    (DetailErased, "entries", ()),
    (DetailErased, "entries", tuple(range(ERASED_MAX + 1))),
    (DetailErased, "reason", "expired"),
    (LogSealed, "cause", "disk"),
    (LogSealed, "detail", "the operator's word"),
    (CallbackReceived, "signature", "forged"),
    (CallbackReceived, "route", "a b"),
    (CallbackReceived, "intent", "evt_1"),
    (CallbackReceived, "tenant", None),
    (AccessDenied, "count", 0),
    (AccessDenied, "tenant", None),
]


@pytest.mark.parametrize(("entry_type", "field", "value"), WRONG)
def test_what_is_outside_of_the_profile_is_not_written(
    entry_type: type[Draft], field: str, value: object
) -> None:
    draft = structs.replace(of_type(entry_type), **{field: value})
    with pytest.raises(EntryRefused):
        encode(draft, STAMP)
    with pytest.raises(EntryRefused):
        encode_draft(draft)


@pytest.mark.parametrize(
    "stamp",
    [
        replaced(STAMP, boot="1"),
        replaced(STAMP, boot=""),
        replaced(STAMP, n=-1),
        replaced(STAMP, n=2**53),
        replaced(STAMP, replica="host-1"),
        replaced(STAMP, replica="r_7k2m9x4i-0"),
        replaced(STAMP, replica="r_7k2m9x4d-01"),
    ],
)
def test_a_stamp_outside_of_the_profile_is_not_written(stamp: Stamp) -> None:
    with pytest.raises(EntryRefused):
        encode(TEST_DRAFT, stamp)


@pytest.mark.parametrize(
    ("kind", "actor_id"),
    [
        ("anonymous", "k_0123"),
        ("anonymous", "writer"),
        ("system", "none"),
        ("system", "k_0123"),
        ("secret_key", "none"),
        ("operator", "writer"),
    ],
)
def test_an_actor_has_the_id_of_its_kind(kind: ActorKind, actor_id: str) -> None:
    with pytest.raises(EntryRefused):
        Actor(id=actor_id, kind=kind)


def test_an_intent_is_its_own_entry() -> None:
    with pytest.raises(EntryRefused):
        structs.replace(TEST_DRAFT, intent=new_uuid())


@pytest.mark.parametrize(
    "changes", [{"attempt": 2}, {"of": new_uuid()}, {"attempt": 2, "of": INTENT}]
)
def test_exactly_later_attempts_name_the_first(changes: dict[str, object]) -> None:
    with pytest.raises(EntryRefused):
        structs.replace(TEST_DRAFT, **changes)


@pytest.mark.parametrize("changed", [("expiry", "expires_at"), ("expiry", "expiry")])
def test_changed_fields_are_in_order(changed: tuple[str, ...]) -> None:
    with pytest.raises(EntryRefused):
        structs.replace(of_type(TokenUpdated), changed=changed)


@pytest.mark.parametrize("entries", [(2, 1), (1, 1)])
def test_erased_entries_are_in_order(entries: tuple[int, ...]) -> None:
    with pytest.raises(EntryRefused):
        structs.replace(of_type(DetailErased), entries=entries)


def test_the_most_that_one_entry_says_is_erased_fits() -> None:
    """At 10,000 entries a second, it takes 300 years to write one that does not."""
    last = tuple(range(10**14 - ERASED_MAX, 10**14))
    entry = decode(encode(structs.replace(of_type(DetailErased), entries=last), STAMP))
    assert isinstance(entry, DetailErased)
    assert entry.entries == last


@pytest.mark.parametrize(
    "changes",
    [
        {"from_version": 2},
        {"from_version": 3},
        {"vkey": UNSET},
        {"key": "pan"},
    ],
)
def test_a_rotation_is_to_a_later_version_and_shows_the_signing_key(
    changes: dict[str, object],
) -> None:
    with pytest.raises(EntryRefused):
        structs.replace(of_type(KeyRotated), **changes)


@pytest.mark.parametrize("finding", set(Finding) - {Finding.ANSWERED})
def test_only_an_answer_has_a_result(finding: Finding) -> None:
    resolved = of_type(AuthorizationResolved)
    structs.replace(resolved, finding=finding, result=Result.ERROR)
    with pytest.raises(EntryRefused):
        structs.replace(resolved, finding=finding, result=Result.APPROVED)


def test_a_log_is_opened_with_its_own_key() -> None:
    with pytest.raises(EntryRefused):
        LogOpened(actor=WRITER, id=new_uuid(), env="test", origin=ORIGIN + "0", vkey=VKEY)


# --- what is not read ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"attempt":1', b'"attempt": 1'),
        (b'"attempt":1', b'"attempt":01'),
        (b'"attempt":1', b'"attempt":1.0'),
        (b'"attempt":1', b'"attempt":1e0'),
        (b'"attempt":1', b'"attempt":"1"'),
        (b'"attempt":1', b'"attempt":null'),
        (b'"attempt":1,', b""),
        (b'"attempt":1,', b'"attempt":1,"attempt":1,'),
        (b'"attempt":1,', b'"attempt":2,"attempt":1,'),
        (b'"attempt":1,', b'"attempt":1,"extra":1,'),
        (b'"n":41', b'"n":-0'),
        (b'"n":41', b'"n":9007199254740992'),
        (b'"n":41,', b""),
        (b'"ts":"2026-01-02T03:04:05.678Z",', b""),
        (b".678Z", b"Z"),
        (b".678Z", b".678000Z"),
        (b".678Z", b".678+00:00"),
        (b"2026-01", b"2026-13"),
        (b"03:04", b"24:04"),
        (b'"route":"stripe"', b'"route":"strip\\u0065"'),
        (b'"route":"stripe"', b'"route":"str\xc3\xafpe"'),
        (b'"route":"stripe"', b'"route":"strip\xff"'),
        (b'"route":"stripe"', b'"\xffoute":"stripe"'),
        (b'{"id":"k_4f8z","kind":"secret_key"}', b'{"kind":"secret_key","id":"k_4f8z"}'),
        (b'{"id":"k_4f8z","kind":"secret_key"}', b'{"id":"none","kind":"secret_key"}'),
        (b'"detail":"2oCl', b'"of":"2oCl'),
        (b'"v":1}', b'"v":1}\n'),
        (b'"v":1}', b'"v":1} '),
        (b'"v":1}', b'"v":1'),
        (b'"v":1}', b'"v":1}}'),
        (b'{"actor"', b'\xef\xbb\xbf{"actor"'),
        (b'{"actor"', b'[{"actor"'),
    ],
)
def test_a_leaf_in_another_form_is_refused(old: bytes, new: bytes) -> None:
    assert TEST_LEAF.count(old) == 1
    with pytest.raises(EntryRefused) as refused:
        decode(TEST_LEAF.replace(old, new))
    assert not isinstance(refused.value, EntryUnknown)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"v":1', b'"v":2'),
        (b'"v":1', b'"v":0'),
        (b'"v":1', b'"v":2,"w":[[1]]'),
        (b'"authorization.attempted"', b'"authorization.guessed"'),
        (b'"authorization.attempted"', b'""'),
    ],
)
def test_another_type_or_version_is_not_malformed_but_unknown(old: bytes, new: bytes) -> None:
    with pytest.raises(EntryUnknown):
        decode(TEST_LEAF.replace(old, new))


@pytest.mark.guards("T-60")
def test_no_changed_byte_gives_another_form_of_an_entry() -> None:
    """Auditor's rule: what is read, written canonically, is the same bytes."""
    read = 0
    for place in range(len(TEST_LEAF)):
        for byte in b'0179afzAZ_-.:,"\\{}[] \x00\x7f\xc3\xff':
            body = TEST_LEAF[:place] + bytes((byte,)) + TEST_LEAF[place + 1 :]
            try:
                entry = decode(body)
            except EntryRefused:
                continue
            read += 1
            assert canonical(entry) == body == rfc8785.dumps(json.loads(body))
    assert read > 500  # an id is as good as another


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with pytest.raises(EntryRefused):
        decode(body)
    with pytest.raises(EntryRefused):
        decode_draft(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000,
        b'{"a":' * 3_000,
        b'{"type":' + b"[" * 10_000,
        b'{"v":1,"type":"log.opened","a":' + b"[" * 10_000,
        b'{"v":1,"type":"log.opened"}' + b" " * ENTRY_BYTES_MAX,
        TEST_LEAF[:-1] + b" " * ENTRY_BYTES_MAX + b"}",
        b"null",
        b"",
    ],
)
def test_hostile_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(EntryRefused):
        decode(body)


def test_a_body_that_is_too_long_is_not_even_parsed() -> None:
    with pytest.raises(EntryRefused, match="long"):
        decode(b" " * (ENTRY_BYTES_MAX + 1))


def test_a_refusal_tells_nothing_of_what_it_refused() -> None:
    body = TEST_LEAF.replace(b'"secret_key"', b'"canary_1"').replace(b'"v":1', b'"canary":1')
    for wrong in (body, b"canary", TEST_LEAF.replace(b"stripe", b"Canary")):
        with pytest.raises(EntryRefused) as refused:
            decode(wrong)
        assert "anary" not in str(refused.value)
        assert refused.value.__cause__ is refused.value.__context__ is None
    with pytest.raises(EntryRefused) as refused:
        encode(structs.replace(TEST_DRAFT, route="canary\ud800"), STAMP)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is refused.value.__context__ is None


# --- drafts -------------------------------------------------------------------------------


@by_type
def test_a_draft_survives_its_bytes(draft: Draft) -> None:
    kept = encode_draft(draft)
    assert decode_draft(kept) == draft
    assert not json.loads(kept).keys() & {"ts", "replica", "boot", "n"}
    assert encode(decode_draft(kept), STAMP) == encode(draft, STAMP)


def test_a_draft_is_not_an_entry_nor_an_entry_a_draft() -> None:
    with pytest.raises(EntryRefused):
        decode(encode_draft(TEST_DRAFT))
    with pytest.raises(EntryRefused):
        decode_draft(TEST_LEAF)


def test_a_stamped_entry_can_be_kept_as_a_draft() -> None:
    assert decode_draft(encode_draft(decode(TEST_LEAF))) == TEST_DRAFT


# --- any entry ----------------------------------------------------------------------------


@given(any_leaf())
def test_whatever_an_entry_says_its_bytes_are_rfc_8785(leaf: dict[str, Any]) -> None:
    body = rfc8785.dumps(leaf)
    entry = decode(body)
    assert canonical(entry) == body
    assert body.isascii()
    emptiness = set(re.findall(rb'"[a-z_]+":(?:null|""|\[\])', body))
    assert emptiness <= {b'"opens":[]'}
