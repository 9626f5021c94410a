"""What is read all at once is what would be read one by one; anything else is left to that."""

import base64
import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from tests import cards
from tests.vault.ledger.any_leaf import Json, any_leaf
from tests.vault.ledger.samples import AT, STAMP, full, new_token, new_uuid
from tests.vault.ledger.written_log import attempted, created, outcome
from vault.authorization import State
from vault.ledger.alike import Alike, read_alike
from vault.ledger.card_scan import holds_card
from vault.ledger.entry import (
    AuthorizationAttempted,
    Draft,
    Entry,
    EntryRefused,
    Opening,
    Stamp,
    decode,
    encode,
)

READ_AT_ONCE = {
    "token.created",
    "token.deleted",
    "authorization.attempted",
    "authorization.completed",
    "authorization.not_sent",
    "authorization.unknown",
}


def column_of(entry: Entry, name: str) -> bytes:
    value = getattr(entry, {"actor": "actor"}.get(name, name), UNSET)
    return b"" if value is UNSET else str(value).encode()


def agree(alike: Alike, bodies: Sequence[bytes]) -> None:
    """Compare every column with what `decode` reads."""
    opened = []
    for row, body in enumerate(bodies):
        entry = decode(body)
        assert not holds_card(body)
        for name, column in alike.columns.items():
            if name not in {"actor", "opens"}:
                assert column[row] == column_of(entry, name), name
        if isinstance(entry, AuthorizationAttempted):
            opened += [
                (row, one.key.encode(), one.token[-28:].encode(), b"%d" % one.version)
                for one in entry.opens
            ]
    assert [tuple(one) for one in alike.openings] == opened


@pytest.mark.parametrize("draft", full(), ids=lambda draft: draft.type)
def test_which_types_are_read_at_once(draft: Draft) -> None:
    body = encode(draft, STAMP)
    alike = read_alike(draft.type, [body] * 3)
    assert (alike is not None) == (draft.type in READ_AT_ONCE)
    if alike is not None:
        agree(alike, [body] * 3)


def test_many_of_a_type_with_and_without_what_is_optional() -> None:
    first, token = new_uuid(), new_token()
    drafts = [
        attempted(first, token),
        attempted(new_uuid()),
        attempted(new_uuid(), token, attempt=2, of=first),
        replace(
            attempted(new_uuid()),
            opens=tuple(Opening(key=key, token=new_token(), version=7) for key in ("pan", "cvc")),
        ),
    ]
    bodies = [encode(draft, STAMP) for draft in drafts]
    alike = read_alike("authorization.attempted", bodies)
    assert alike is not None
    agree(alike, bodies)


@given(any_leaf(), st.data())
@settings(max_examples=300)
def test_whatever_is_read_at_once_is_an_entry(fields: Json, data: st.DataObject) -> None:
    body = json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(body) - 1))
        other = data.draw(st.binary(max_size=3))
        body = body[:place] + other + body[place + data.draw(st.integers(0, 3)) :]
    alike = read_alike(str(fields["type"]), [body])
    if alike is not None:
        agree(alike, [body])


GOOD = encode(attempted(new_uuid(), new_token()), STAMP)
OTHER = encode(attempted(new_uuid(), new_token()), STAMP)


@pytest.mark.parametrize(
    "bodies",
    [
        [GOOD, b"{}"],
        [GOOD + b"\n" + OTHER, b"{}"],  # as many matches as entries, and none of them is one
        [GOOD + b"\n"],
        [b"x" + GOOD],
        [GOOD[:-1]],
        [GOOD + OTHER],
        [GOOD.replace(b'"attempt":1', b'"attempt":0')],
        [GOOD.replace(b'"attempt":1', b'"attempt":2')],
        [GOOD.replace(b'"version":1', b'"version":0')],
        [GOOD.replace(b'"version":1', b'"version":9999999999999999')],
        [GOOD.replace(b'"kind":"secret_key"', b'"kind":"system"')],
        [GOOD.replace(b'"intent":"01', b'"intent":"02')],
        [GOOD.replace(b'"v":1', b'"v":1.0')],
        [GOOD.replace(b'"v":1', b'"v":2')],
        [encode(created(new_token()), STAMP)],  # another type than is said
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_be_read_one_by_one(bodies: list[bytes]) -> None:
    assert read_alike("authorization.attempted", bodies) is None


@pytest.mark.parametrize("status", [b"0", b"99", b"1000"])
def test_a_status_out_of_bounds(status: bytes) -> None:
    body = encode(outcome(new_uuid(), State.COMPLETED), STAMP)
    assert read_alike("authorization.completed", [body]) is not None
    broken = body.replace(b'"status":200', b'"status":' + status)
    assert read_alike("authorization.completed", [broken]) is None


def test_an_entry_that_is_too_long() -> None:
    opens = tuple(Opening(key="pan", token=new_token(), version=1) for _ in range(32))
    body = encode(replace(attempted(new_uuid()), opens=opens), STAMP)
    assert read_alike("authorization.attempted", [body]) is None, "for decode to count"
    item = b'{"key":"pan","token":"%b","version":1},' % new_token().encode()
    assert (
        read_alike("authorization.attempted", [GOOD.replace(b"[{", b"[" + item * 300 + b"{")])
        is None
    )


@pytest.mark.guards("T-38")
@pytest.mark.parametrize("place", ["stripe", "payment_intents.confirm", "k_", "t_01", "n"])
@pytest.mark.parametrize("card", cards.ALL)
def test_nothing_with_a_card_in_it_is_read_at_once(place: str, card: str) -> None:
    body = encode(attempted(new_uuid(), new_token()), Stamp(AT, STAMP.replica, STAMP.boot, 41))
    if place == "n":
        body = body.replace(b'"n":41', b'"n":' + card.encode())
    elif place == "k_":
        body = body[:16] + b"k_" + card.encode() + body[body.index(b'","kind":"secret') :]
    else:
        body = body.replace(b'"%b"' % place.encode(), b'"t_%b"' % card.encode())
    assert read_alike("authorization.attempted", [GOOD, body]) is None
    hidden = body.replace(card.encode(), b"a")
    assert hidden != body


@pytest.mark.guards("T-38")
def test_a_card_in_the_base64_of_a_detail_is_left_to_be_found() -> None:
    detail = base64.urlsafe_b64encode(cards.VISA.encode().rjust(32, b"\0")).rstrip(b"=").decode()
    body = encode(replace(created(new_token()), detail=detail), STAMP)
    assert holds_card(body)
    assert read_alike("token.created", [body]) is None


def test_an_unknown_type() -> None:
    assert read_alike("canary", [b"{}"]) is None
    with pytest.raises(EntryRefused):
        decode(b"{}")
