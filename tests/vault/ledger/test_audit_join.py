"""HashiCorp Vault's audit log against the intents: what no intent stands for is named."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vault.ledger.samples import AT, new_actor, new_hash, new_token, new_uuid
from tests.vault.ledger.signed_story import purchases
from tests.vault.rows import outcome_entry
from vault.authorization import Kind, Result, State
from vault.ledger import audit_join
from vault.ledger.audit_join import AuditJoin, Unmatched
from vault.ledger.entry import (
    AuthorizationAttempted,
    Draft,
    Entry,
    GatewayStarted,
    Opening,
    Stamp,
    decode,
    encode,
)
from vault.ledger.examination import examine
from vault.ledger.pages import page_of

Key = Literal["pan", "cvc"]


def stamped(draft: Draft, at: datetime) -> Entry:
    return decode(encode(draft, Stamp(at, "r_7k2m9x4d-0", new_uuid(), 0)))


@dataclass
class Story:
    """A join that is fed by the test."""

    join: AuditJoin = field(default_factory=AuditJoin)
    lines: int = 0

    def intent(self, *keys: Key, at: datetime = AT) -> str:
        intent = new_uuid()
        openings = tuple(Opening(key=key, token=new_token(), version=1) for key in keys)
        draft = AuthorizationAttempted(
            id=intent,
            intent=intent,
            actor=new_actor(),
            tenant="t_01",
            kind=Kind.AUTHORIZE,
            attempt=1,
            route="stripe",
            operation="confirm",
            opens=openings,
        )
        self.join.add_entry(stamped(draft, at))
        return intent

    def ends(self, intent: str, state: State, at: datetime) -> None:
        result = Result.APPROVED if state is State.COMPLETED else None
        self.join.add_entry(stamped(outcome_entry(intent, "t_01", state, result), at))

    def hears(self, *records: dict[str, Any] | bytes) -> list[str]:
        """Feed lines; say what is found to be wrong with them."""
        before = len(self.join.unmatched)
        texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in records]
        self.join.add_lines(texts, first_line=self.lines + 1)
        self.lines += len(texts)
        return [found.message for found in self.join.unmatched[before:]]


def decrypts(
    *references: str | None, key: str = "pan", after: float = 0.1, **changes: object
) -> dict[str, Any]:
    """A record as OpenBao writes it, with what else is in one."""
    items = [
        {"ciphertext": "hmac-sha256:00", **({"reference": one} if one is not None else {})}
        for one in references
    ]
    at = AT + timedelta(seconds=after)
    return {
        "time": at.isoformat().replace("+00:00", "123Z"),
        "type": "request",
        "auth": {"policies": ["reveal"]},
        "request": {
            "id": new_uuid(),
            "operation": "update",
            "path": f"transit/decrypt/{key}",
            "data": {"batch_input": items},
        },
        **changes,
    }


# --- what is as it must be ------------------------------------------------------------------


def test_decrypts_of_earlier_intents_match() -> None:
    story = Story()
    one, two = story.intent("pan", "cvc", "pan"), story.intent("pan")
    assert story.hears(decrypts(f"{one}/0", f"{two}/0"), decrypts(f"{one}/2")) == []
    assert story.hears(decrypts(f"{one}/1", key="cvc")) == []
    assert story.join.decrypts == 4
    assert story.join.unmatched_total == 0


def test_what_is_no_decrypt_of_a_card_is_nobodys_business() -> None:
    story = Story()
    encrypt = decrypts("x")
    encrypt["request"]["path"] = "transit/encrypt/pan"
    login: dict[str, Any] = {"type": "request", "time": "x", "request": {"path": "auth/approle"}}
    assert story.hears(encrypt, decrypts("probe", key="reply"), login, b"garbage") == []
    assert story.join.decrypts == 0


def test_answers_are_not_joined() -> None:
    """The answer to a mixed batch is one hashed text, without references of its own."""
    story = Story()
    assert story.hears(decrypts("unknown/0", type="response")) == []


def test_who_opened_nothing_is_known_by_it() -> None:
    story = Story()
    one, two = story.intent("pan"), story.intent("pan")
    story.hears(decrypts(f"{one}/0"))
    assert story.join.opened(one)
    assert not story.join.opened(two)


def heard(after: float) -> dict[str, Any]:
    """Something else that is in the audit log, at its time."""
    return decrypts("probe", key="reply", after=after)


def in_order(record: dict[str, Any]) -> bytes:
    """As the server writes it: the time first."""
    return written({"time": record["time"], **record})


def test_intents_that_opened_nothing_were_never_sent() -> None:
    story = Story()
    early = story.intent("pan", at=AT - timedelta(seconds=60))
    opened, failed, _free = story.intent("pan"), story.intent("pan", "cvc"), story.intent()
    late = story.intent("pan", at=AT + timedelta(seconds=60))
    assert story.join.not_opened() == 0, "no audit log, no proof"
    story.hears(in_order(heard(-5)), in_order(decrypts(f"{opened}/0")), in_order(heard(5)))
    assert story.join.not_opened() == 1
    assert not any(map(story.join.opened, (early, failed, late)))
    story.hears(in_order(decrypts(f"{failed}/1", key="cvc")), in_order(heard(90)))
    assert story.join.not_opened() == 1, "the late one"


def test_a_page_says_what_its_entries_would() -> None:
    """Whatever `ledger verify` hands over in pages, `add_entry` takes one by one."""
    log = purchases(300)
    by_page, by_entry = AuditJoin(), AuditJoin()
    page = page_of(0, [row.body for row in log.rows], [row.leaf for row in log.rows])
    page.joins = True
    by_page.add_page(examine(page))
    for row in log.rows:
        by_entry.add_entry(decode(row.body))
    for name in ("_intents", "_cvcs", "_ended"):
        assert dict(getattr(by_page, name).items()) == dict(getattr(by_entry, name).items())
    assert len(dict(by_page._intents.items())) > 80


def test_entries_of_other_kinds_say_nothing() -> None:
    story = Story()
    draft = GatewayStarted(
        id=new_uuid(), actor=new_actor(), config=new_hash(), role="all", version="0.1.0"
    )
    story.join.add_entry(stamped(draft, AT))
    assert story.hears(decrypts(f"{draft.id}/0")) == [UNKNOWN]


# --- each violation -------------------------------------------------------------------------

UNKNOWN = "decrypts without an intent on record"
FOREIGN = "decrypts an item that its intent does not name"
OTHER_KEY = "decrypts under another key than its intent names"
EARLY = "decrypts before its intent"
LATE = "decrypts after its intent ended"
AGAIN = "decrypts the same item again later"
NO_BATCH = "decrypts without a batch"
NO_RECORD = "is no audit record"
MEDDLES = "asks for a key to leave"


@pytest.mark.guards("T-61")
@pytest.mark.parametrize(
    "reference", [None, "", "/0", "0", "01936b2e-7c00/0", pytest.param("ab" * 500, id="long")]
)
def test_a_decrypt_without_an_intent(reference: str | None) -> None:
    story = Story()
    story.intent("pan")
    assert story.hears(decrypts(reference)) == [UNKNOWN]
    assert story.join.unmatched == [Unmatched(1, UNKNOWN)]


@pytest.mark.guards("T-61")
@pytest.mark.parametrize(
    "position",
    [
        "",
        "1",
        "-1",
        "00",
        "+0",
        " 0",
        "0 ",
        "0/0",
        "x",
        "\u00b2",
        "\u0660",
        pytest.param("9" * 5000, id="long"),
    ],
)
def test_an_item_that_its_intent_does_not_name(position: str) -> None:
    """Another spelling of a position counts too: it would hide a repetition."""
    story = Story()
    assert story.hears(decrypts(f"{story.intent('pan')}/{position}")) == [FOREIGN]


@pytest.mark.guards("T-61")
def test_another_key_than_the_intent_names() -> None:
    story = Story()
    intent = story.intent("pan", "cvc")
    assert story.hears(decrypts(f"{intent}/0", key="cvc")) == [OTHER_KEY]
    assert story.hears(decrypts(f"{intent}/1", key="pan")) == [OTHER_KEY]


@pytest.mark.guards("T-61")
def test_a_decrypt_before_its_intent() -> None:
    story = Story()
    intent = story.intent("pan", "pan")
    assert story.hears(decrypts(f"{intent}/0", after=-1.9)) == []
    assert story.hears(decrypts(f"{intent}/1", after=-2.1)) == [EARLY]


@pytest.mark.guards("T-61")
@pytest.mark.parametrize("state", [State.COMPLETED, State.NOT_SENT, State.UNKNOWN])
def test_a_decrypt_after_the_end_of_its_intent(state: State) -> None:
    story = Story()
    intent = story.intent("pan", "pan")
    story.ends(intent, state, AT + timedelta(seconds=10))
    if state is State.UNKNOWN:
        resolved = outcome_entry(intent, "t_01", State.RESOLVED, Result.APPROVED)
        story.join.add_entry(stamped(resolved, AT + timedelta(seconds=99)))
    assert story.hears(decrypts(f"{intent}/0", after=11.9)) == []
    assert story.hears(decrypts(f"{intent}/1", after=12.1)) == [LATE]


@pytest.mark.guards("T-61")
def test_a_repetition_is_a_retry_only_for_a_moment() -> None:
    story = Story()
    intent = story.intent("pan")
    assert story.hears(decrypts(f"{intent}/0", after=0)) == []
    assert story.hears(decrypts(f"{intent}/0", after=4.9)) == []
    assert story.hears(decrypts(f"{intent}/0", after=5.1)) == [AGAIN]


@pytest.mark.parametrize("data", [None, {}, {"ciphertext": "x"}, {"batch_input": []}])
def test_a_decrypt_that_names_nothing(data: dict[str, object] | None) -> None:
    story = Story()
    record = decrypts()
    record["request"]["data"] = data
    assert story.hears(record) == [NO_BATCH]


@pytest.mark.parametrize("what", ["export/encryption-key/pan", "backup/pan", "byok-export/a/pan"])
def test_keys_that_are_asked_to_leave(what: str) -> None:
    story = Story()
    record = decrypts()
    record["request"] = {"path": f"transit/{what}", "operation": "read"}
    assert story.hears(record) == [MEDDLES]


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"request","request":{"path":"transit/decrypt/pan"',
        b'["transit/"]',
        json.dumps(decrypts("a/0", time="yesterday")).encode(),
        json.dumps(decrypts("a/0", time="2026-01-02T03:04:05")).encode(),
        json.dumps(decrypts("a/0", request={"path": 7, "x": "transit/"})).encode(),
        b"\xff transit/",
    ],
)
def test_a_line_that_cannot_be_read(line: bytes) -> None:
    story = Story()
    assert story.hears(line) == [NO_RECORD]


def written(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


@pytest.mark.guards("F-40")
@pytest.mark.parametrize("cut", [9, 20, -1, -40])
def test_a_record_that_a_crash_cut_off(cut: int) -> None:
    """Its successor stands behind it in the same line, and must not hide there."""
    story = Story()
    intent = story.intent("pan", "pan")
    torn = written(decrypts("off the record/0"))[:cut]
    assert story.hears(torn + written(decrypts(f"{intent}/0"))) == []
    assert (story.join.torn, story.join.decrypts) == (1, 1)
    assert story.hears(torn + torn + written(decrypts("off the record/1"))) == [UNKNOWN]
    assert (story.join.torn, story.join.decrypts) == (3, 2)


@pytest.mark.guards("F-40")
def test_a_record_whose_end_of_line_a_crash_cut_off() -> None:
    story = Story()
    intent = story.intent("pan")
    whole = written(decrypts("off the record/0"))
    assert story.hears(whole + written(decrypts(f"{intent}/0"))) == [UNKNOWN]
    assert (story.join.torn, story.join.decrypts) == (0, 2)


def test_nothing_but_pieces_is_no_record() -> None:
    story = Story()
    piece = written(decrypts("off the record/0"))[:-9]
    assert story.hears(piece, piece * 2, piece * 1000) == [NO_RECORD] * 3


def test_one_bad_item_does_not_hide_behind_good_ones() -> None:
    story = Story()
    intent = story.intent("pan")
    story.hears({"type": "request"}, b"")
    assert story.hears(decrypts(f"{intent}/0", "off the record/0")) == [UNKNOWN]
    assert story.join.unmatched == [Unmatched(3, UNKNOWN)]
    assert story.join.decrypts == 2


def test_all_are_counted_and_some_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_join, "VIOLATIONS_KEPT_MAX", 3)
    story = Story()
    story.hears(*(decrypts("x/0") for _ in range(5)))
    assert (len(story.join.unmatched), story.join.unmatched_total) == (3, 5)


@given(st.lists(st.binary(max_size=80).map(lambda line: b"transit/" + line), max_size=5))
def test_any_line_is_read_or_named(lines: Sequence[bytes]) -> None:
    join = AuditJoin()
    join.add_lines(lines)
    assert join.unmatched_total == len(lines)
