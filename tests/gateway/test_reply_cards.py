import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import msgspec
import pytest

from gateway import preset
from gateway.codecs.splice import BOM
from gateway.exchange import Replied
from gateway.order import OpenedCard
from gateway.preset import Preset, ReplyCard
from gateway.reply import Reflected, Scrubbed
from gateway.reply_cards import STORED_MAX, Owner, ReplyCards
from tests import cards
from vault.card import Card, Expiry
from vault.card_vault import CardVault, NewToken
from vault.errors import CustodyError, KeysSealed, StoreUnavailable
from vault.ledger.entry import Actor
from vault.pan import Cvc, Pan
from vault.token_table import TokenRow
from vault.tokens import token_of

STRIPE = preset.load("stripe")
AT = datetime(2026, 11, 22, tzinfo=UTC)
OWNER = Owner("t_shop", Actor(id="k_1", kind="secret_key"))
SENT = OpenedCard(token_of("test", 99), Pan.parse(cards.VISA), Cvc.parse("737"), Expiry(2031, 3))
XML_CARDS = (
    ReplyCard(
        number="a.card.number",
        exp_month="a.card.@month",
        exp_year="a.card.@year",
        cvc="a.card.cvc",
    ),
)


@dataclass(slots=True)
class FakeCardVault:
    """Keeps cards in memory, by the promises of the real one."""

    refusal: CustodyError | None = None
    stored: list[tuple[Card, NewToken]] = field(default_factory=list[tuple[Card, NewToken]])

    async def tokenize(self, card: Card, wanted: NewToken) -> tuple[TokenRow, bool]:
        if self.refusal is not None:
            raise self.refusal
        self.stored.append((card, wanted))
        row = TokenRow(
            id=token_of("test", len(self.stored)),
            tenant=wanted.tenant,
            pan_like=None,
            format=wanted.format,
            brand=card.brand,
            pan_length=len(card.pan),
            last4=card.pan.last4,
            bin=None,
            exp_month=card.expiry.month if card.expiry else None,
            exp_year=card.expiry.year if card.expiry else None,
            ciphertext="",
            key_version=1,
            fingerprint="fp_1",
            reusable=False,
            single_use=False,
            expires_at=None,
            customer_reference=None,
            created_at=AT,
        )
        return row, True


FIRST, SECOND = token_of("test", 1), token_of("test", 2)


async def _cleaned(
    vault: FakeCardVault,
    body: str | bytes,
    *sent: OpenedCard,
    chosen: Preset = STRIPE,
    headers: tuple[tuple[str, str], ...] = (),
) -> Scrubbed | Reflected:
    made = ReplyCards(cast("CardVault", vault), now=lambda: AT)
    data = body.encode() if isinstance(body, str) else body
    return await made.cleaned(chosen, OWNER, Replied(200, headers, data, 1.0, 1.0), sent)


async def _body(vault: FakeCardVault, body: str | bytes, chosen: Preset = STRIPE) -> bytes:
    cleaned = await _cleaned(vault, body, chosen=chosen)
    assert isinstance(cleaned, Scrubbed)
    return cleaned.body


def _issued(number: object = cards.MASTERCARD, **more: object) -> dict[str, object]:
    return {"id": "ic_1", "number": number, "exp_month": 12, "exp_year": 2031, **more}


@pytest.mark.guards("T-40")
@pytest.mark.parametrize("bom", [b"", BOM])
async def test_a_card_that_a_reply_declares_becomes_a_token_of_its_owner(bom: bytes) -> None:
    vault = FakeCardVault()
    body = json.dumps(_issued(cvc="123", last4="4444"), indent=1).encode()
    expected = body.replace(cards.MASTERCARD.encode(), FIRST.encode()).replace(b'"123"', b'"000"')
    assert await _body(vault, bom + body) == bom + expected
    ((card, wanted),) = vault.stored
    assert (card.pan, card.expiry, card.cvc) == (
        Pan.parse(cards.MASTERCARD),
        Expiry(2031, 12),
        None,
    )
    assert (wanted.tenant, wanted.actor) == (OWNER.tenant, OWNER.actor)


@pytest.mark.guards("T-40")
async def test_so_does_each_of_a_list() -> None:
    vault = FakeCardVault()
    body = json.dumps({"data": [_issued(), {"id": "x"}, _issued(cards.AMEX, cvc="1234")]})
    shown = json.loads(await _body(vault, body))
    assert shown == {"data": [_issued(FIRST), {"id": "x"}, _issued(SECOND, cvc="0000")]}


@pytest.mark.guards("T-40")
async def test_a_number_of_json_stays_valid_json() -> None:
    shown = json.loads(await _body(FakeCardVault(), json.dumps(_issued(int(cards.VISA_ALT)))))
    assert shown["number"] == FIRST


@pytest.mark.guards("T-40")
async def test_a_number_in_groups_is_stored_as_one() -> None:
    vault = FakeCardVault()
    number = cards.MASTERCARD
    grouped = " ".join(number[at : at + 4] for at in range(0, 16, 4))
    assert json.loads(await _body(vault, json.dumps(_issued(grouped))))["number"] == FIRST
    assert vault.stored[0][0].pan == Pan.parse(number)


@pytest.mark.parametrize(
    "document",
    [
        {"number": cards.VISA},
        {"number": cards.VISA, "exp_month": 12},
        {"number": "INV-1001", "exp_month": 12, "exp_year": 2031},
        {"number": "4444", "exp_month": 12, "exp_year": 2031},
        {"number": None, "exp_month": 12, "exp_year": 2031},
        {"other": {"number": cards.VISA, "exp_month": 12, "exp_year": 2031}},
        {"cvc": "123"},
        {"cvc": "check", "exp_month": 12, "exp_year": 2031},
        [cards.VISA],
    ],
)
async def test_what_is_not_declared_or_is_no_card_keeps_its_bytes(document: object) -> None:
    vault = FakeCardVault()
    body = json.dumps(document)
    assert await _body(vault, body) == body.encode()
    assert vault.stored == []


@pytest.mark.guards("T-40")
async def test_a_code_that_comes_alone_becomes_zeros() -> None:
    card = {"exp_month": 12, "exp_year": 2031}
    for code, zeros in (("123", "000"), ("1234", "0000"), (123, 0)):
        document = json.dumps({"cvc": code, **card})
        assert json.loads(await _body(FakeCardVault(), document)) == {"cvc": zeros, **card}


@pytest.mark.guards("T-40")
async def test_a_list_without_end_costs_no_more_than_some() -> None:
    vault = FakeCardVault()
    shown = json.loads(await _body(vault, json.dumps({"data": [_issued()] * (STORED_MAX + 2)})))
    assert len(vault.stored) == STORED_MAX
    assert shown["data"][-1]["number"] == "*" * 12 + shown["data"][-1]["number"][-4:]


@pytest.mark.guards("T-40")
@pytest.mark.parametrize("refusal", [KeysSealed(), StoreUnavailable()])
async def test_one_that_cannot_be_stored_keeps_its_last_four(refusal: CustodyError) -> None:
    vault = FakeCardVault(refusal)
    shown = json.loads(await _body(vault, json.dumps(_issued(cvc="123"))))
    assert shown["number"] == "*" * 12 + cards.MASTERCARD[-4:]
    assert shown["cvc"] == "000"


@pytest.mark.guards("T-40")
@pytest.mark.parametrize(
    ("number", "month", "year"),
    [
        (cards.luhn_broken(cards.VISA[:-1]), 12, 2031),
        (cards.VISA, 13, 2031),
        (cards.VISA, 12, 1999),
        (cards.VISA, "x", 2031),
    ],
)
async def test_so_does_one_that_our_rules_refuse(number: str, month: object, year: object) -> None:
    body = json.dumps({"number": number, "exp_month": month, "exp_year": year})
    shown = json.loads(await _body(FakeCardVault(), body))
    assert shown["number"] in {"*" * (len(number) - 4) + number[-4:], FIRST}
    assert number not in json.dumps(shown)


@pytest.mark.guards("T-40")
async def test_xml_has_cards_too() -> None:
    chosen = msgspec.structs.replace(STRIPE, reply_cards=XML_CARDS)
    text = '{}<a><card month="12" year="2031"><number>{}</number><cvc>{}</cvc></card></a>\n'
    vault = FakeCardVault()
    body = text.format(BOM.decode(), cards.VISA, "123")
    assert await _body(vault, body, chosen) == text.format(BOM.decode(), FIRST, "000").encode()
    assert vault.stored[0][0].expiry == Expiry(2031, 12)


@pytest.mark.parametrize("body", ["", "text", "{", "<a>", "<a/>", "[]", '{"number": {}}'])
async def test_a_reply_that_has_none_is_left_alone(body: str) -> None:
    assert await _body(FakeCardVault(), body) == body.encode()


@pytest.mark.guards("T-40")
async def test_an_echo_of_what_was_sent_is_its_token_and_not_a_new_one() -> None:
    vault = FakeCardVault()
    body = json.dumps({"data": [_issued(cards.VISA), _issued(cards.AMEX)]})
    cleaned = await _cleaned(vault, body, SENT, headers=(("X-Echo", cards.VISA),))
    assert isinstance(cleaned, Scrubbed)
    assert [each["number"] for each in json.loads(cleaned.body)["data"]] == [SENT.token, FIRST]
    assert (cleaned.echoes, cleaned.headers) == (2, (("X-Echo", SENT.token),))
    assert len(vault.stored) == 1


async def test_a_reply_that_cannot_be_cleaned_stores_nothing() -> None:
    vault = FakeCardVault()
    body = json.dumps(_issued(cards.AMEX, text=cards.VISA[::-1]))
    assert isinstance(await _cleaned(vault, body, SENT), Reflected)
    assert vault.stored == []


async def test_a_preset_without_such_fields_stores_nothing() -> None:
    vault = FakeCardVault()
    body = json.dumps(_issued())
    chosen = msgspec.structs.replace(STRIPE, reply_cards=())
    assert await _body(vault, body, chosen) == body.encode()
