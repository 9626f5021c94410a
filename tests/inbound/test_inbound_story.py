"""A card comes in, a token goes on: what a merchant's endpoint gets, and what it never does."""

import base64
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest

from tests.cards import AMEX, MASTERCARD, VISA, VISA_ALT
from tests.flows.deployment import eventually
from tests.flows.merchant import FORM, JSON
from tests.inbound.client import Shopper
from tests.inbound.stage import BODY_BYTES_MAX, CSV, NDJSON

pytestmark = pytest.mark.embedded

TIED = {"exp_month": "12", "exp_year": "2034"}


def form(**fields: str) -> bytes:
    return urlencode(fields).encode()


def fields(body: bytes) -> dict[str, str]:
    read = parse_qs(body.decode(), keep_blank_values=True)
    return {name: value for name, (value,) in read.items()}


async def test_a_form_goes_on_with_a_token(shopper: Shopper) -> None:
    body = form(name="A. Customer", number=VISA, cvc="123", note="two, please", **TIED)
    seen = await shopper.arrives("/form/pay", body, FORM)
    got = fields(seen.body)
    card = await shopper.card(got["number"])
    assert (card["brand"], card["last4"], card["exp_month"], card["exp_year"]) == (
        "visa",
        VISA[-4:],
        12,
        2034,
    )
    assert got["cvc"] == "000"
    assert seen.header("Panward-Cards") == "1"
    before = body.decode().replace(f"number={VISA}", f"number={got['number']}")
    assert seen.body.decode() == before.replace("cvc=123", "cvc=000"), "another byte has changed"


async def test_the_token_pays_with_the_code_that_was_typed(shopper: Shopper) -> None:
    seen = await shopper.arrives("/form/pay", form(number=VISA, cvc="123", **TIED), FORM)
    token = fields(seen.body)["number"]
    method = {
        "type": "card",
        "card[number]": token,
        "card[exp_month]": 12,
        "card[exp_year]": 2034,
        "card[cvc]": "000",
    }
    reply = await shopper.office.out("/v1/payment_methods", method)
    assert reply.status == 200, reply.body
    assert shopper.stage.deployment.processor.numbers[-1] == VISA


async def test_json_of_several_cards(shopper: Shopper) -> None:
    body = {"number": VISA_ALT, "cvc": "123", **TIED, "note": [1.5, None, "é", {"deep": True}]}
    seen = await shopper.arrives("/form/pay", json.dumps(body).encode(), JSON)
    got = json.loads(seen.body)
    assert got | {"number": VISA_ALT, "cvc": "123"} == body
    assert (await shopper.card(got["number"]))["last4"] == VISA_ALT[-4:]
    assert got["cvc"] == "000"


async def test_a_multipart_form(shopper: Shopper) -> None:
    boundary = "----panward"
    part = '--{0}\r\nContent-Disposition: form-data; name="{1}"\r\n\r\n{2}\r\n'
    parts = {"number": AMEX, "cvc": "1234", **TIED, "comment": "hello"}
    text = "".join(part.format(boundary, *each) for each in parts.items())
    body = f"{text}--{boundary}--\r\n".encode()
    seen = await shopper.arrives("/form/pay", body, f"multipart/form-data; boundary={boundary}")
    token = seen.body.partition(b'name="number"\r\n\r\n')[2].partition(b"\r\n")[0].decode()
    assert (await shopper.card(token))["brand"] == "amex"
    assert b'name="cvc"\r\n\r\n0000\r\n' in seen.body


async def test_xml_headers_and_queries(shopper: Shopper) -> None:
    body = (
        f'<order><card cvc="123"><number>{MASTERCARD}</number><month>12</month>'
        "<year>34</year></card></order>"
    )
    seen = await shopper.arrives(
        f"/form/pay?card={VISA}&page=2", body.encode(), "application/xml", {"X-Card-Number": AMEX}
    )
    inside = seen.body.partition(b"<number>")[2].partition(b"<")[0].decode()
    assert (await shopper.card(inside))["last4"] == MASTERCARD[-4:]
    assert (await shopper.card(seen.query["card"]))["last4"] == VISA[-4:]
    header = seen.header("X-Card-Number")
    assert header is not None
    card = await shopper.card(header)
    assert (card["last4"], card["exp_month"]) == (AMEX[-4:], None)
    assert seen.query["page"] == "2"


@pytest.mark.parametrize(
    ("body", "content_type", "told"),
    [
        (
            form(number="4242424242424241", **TIED),
            FORM,
            (422, "card_field_refused", "number", "luhn"),
        ),
        (
            form(number=VISA, exp_month="12"),
            FORM,
            (422, "card_field_refused", "exp_year", "missing"),
        ),
        (form(number=VISA, **TIED, cvc="12"), FORM, (422, "card_field_refused", "cvc", "length")),
        (form(number="soon", **TIED), FORM, (422, "card_field_refused", "number", "not_digits")),
        (form(note=VISA), FORM, (422, "undeclared_card", "note", None)),
        (b'{"number": ', JSON, (422, "body_unreadable", None, "json")),
        (b"number=1", "text/plain", (415, "unsupported_media_type", None, "content_type")),
        (b"number=%zz&a=%", "application/x-www-form-urlencoded; charset=utf-7", None),
    ],
)
async def test_what_cannot_be_read_goes_nowhere(
    shopper: Shopper, body: bytes, content_type: str, told: tuple[object, ...] | None
) -> None:
    refusal = await shopper.refusal("/form/pay", body, {"Content-Type": content_type})
    if told is None:
        assert refusal[0] in {415, 422}
    else:
        assert refusal == told


async def test_nothing_is_passed_on_while_cards_cannot_be_stored(shopper: Shopper) -> None:
    deployment = shopper.stage.deployment
    with deployment.frozen(deployment.openbao):
        refusal = await shopper.refusal(
            "/form/pay", form(number=VISA, **TIED), {"Content-Type": FORM}
        )
    assert refusal[0] == 503
    await shopper.arrives("/form/pay", form(number=VISA, **TIED), FORM)


@pytest.mark.parametrize("policy", ["tokenize", "mask"])
async def test_undeclared_cards_in_a_stream(shopper: Shopper, policy: str) -> None:
    text = f"caller said {VISA[:4]} {VISA[4:8]} {VISA[8:12]} {VISA[12:]}, order 4711\n"
    filler = "nothing to see here\n" * 20_000
    body = (filler + text + filler).encode()
    seen = await shopper.arrives(f"/{policy}/notes", body, "text/plain")
    start, _, end = seen.body.decode().partition("caller said ")
    shown = end.partition(",")[0]
    assert start == filler
    assert end.partition("\n")[2] == filler
    if policy == "mask":
        assert shown.replace("*", "") == VISA[-4:]
    else:
        assert (await shopper.card(shown))["last4"] == VISA[-4:]


async def test_a_refused_stream_does_not_arrive_whole(shopper: Shopper) -> None:
    merchant = shopper.stage.merchant
    body = b"x" * 300_000 + b" " + VISA.encode() + b" " + b"y" * 300_000
    reply = await shopper.send("POST", "/refuse/notes", body, {"Content-Type": "text/plain"})
    assert reply.told() == (422, "undeclared_card", "body", None)
    assert not merchant.requests


async def test_files_of_rows_pass_as_they_come(shopper: Shopper) -> None:
    rows = "".join(f"{VISA},12/34,123,customer {at}\r\n" for at in range(600))
    seen = await shopper.arrives("/files/nightly", f"pan,exp,cvc,who\r\n{rows}".encode(), CSV)
    header, *lines = seen.body.decode().splitlines()
    assert header == "pan,exp,cvc,who"
    tokens = [line.split(",")[0] for line in lines]
    assert len(set(tokens)) == len(tokens) == 600
    assert lines[599] == f"{tokens[599]},12/34,000,customer 599"
    assert (await shopper.card(tokens[599]))["last4"] == VISA[-4:]


async def test_json_lines_and_fixed_widths(shopper: Shopper) -> None:
    line = {"card": {"number": VISA, "month": 12, "year": 2034}, "id": 7}
    seen = await shopper.arrives("/files/x", (json.dumps(line) + "\n").encode() * 3, NDJSON)
    tokens = {json.loads(each)["card"]["number"] for each in seen.body.splitlines()}
    assert len(tokens) == 3
    fixed = f"{VISA:<19}{'A. Customer':<21}\n".encode() * 2
    seen = await shopper.arrives("/files/x", fixed, "text/plain")
    first = seen.body[:16].decode()
    assert first.startswith("99")
    assert len(seen.body) == len(fixed)


async def test_a_bad_row_is_named(shopper: Shopper) -> None:
    body = f"pan,exp,cvc\n{VISA},12/34,123\n4242,12/34,123\n".encode()
    reply = await shopper.send("POST", "/files/nightly", body, {"Content-Type": CSV})
    assert reply.told() == (422, "card_field_refused", "pan[1]", "length")
    assert not shopper.stage.merchant.requests


async def test_a_merchants_own_answer_has_no_card_in_it(shopper: Shopper) -> None:
    token = fields((await shopper.arrives("/form/pay", form(number=VISA, **TIED), FORM)).body)[
        "number"
    ]
    told = {"card": {"token": token, "secret": "s", "number": MASTERCARD}, "see": f"x {AMEX} y"}
    content = json.dumps(told).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nContent-Length: {len(content)}\r\n"
    checksum = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    more = f"X-Seen: {VISA_ALT}\r\nContent-MD5: {checksum}\r\n\r\n"
    raw = head.encode() + more.encode() + content
    for path in ("/replies/it", "/it"):
        shopper.stage.merchant.answers[path] = raw
    reply = await shopper.send("GET", "/replies/it")
    card = reply.json()["card"]
    assert card == {"token": f"{'*' * 12}{VISA[-4:]}", "secret": "", "number": f"{'*' * 12}4444"}
    assert reply.json()["see"] == f"x {'*' * 11}{AMEX[-4:]} y"
    assert reply.headers["X-Seen"] == f"{'*' * 12}{VISA_ALT[-4:]}"
    streamed = await shopper.send("GET", "/it")
    assert int(streamed.headers["Content-Length"]) == len(content)
    assert streamed.json()["card"]["number"] == f"{'*' * 12}4444"
    assert "Content-MD5" not in {**reply.headers, **streamed.headers}, "it tells the number"


async def test_what_is_too_large_is_refused_unread(shopper: Shopper) -> None:
    body = b"a=" + b"x" * BODY_BYTES_MAX
    told = await shopper.refusal("/form/pay", body, {"Content-Type": FORM})
    assert told[:2] == (413, "body_too_large")


async def test_the_ledger_says_which_route_brought_a_card(shopper: Shopper) -> None:
    seen = await shopper.arrives("/form/pay", form(number=VISA, **TIED), FORM)
    token = fields(seen.body)["number"]

    async def on_record() -> dict[str, Any] | None:
        index = 0
        while True:
            asked = f"/v1/ledger/events?limit=100&since_index={index}"
            page = (await shopper.office.api("GET", asked)).json()["data"]
            if not page:
                return None
            for each in page:
                if each["entry"].get("token") == token:
                    return dict(each["entry"])
            index = max(each["index"] for each in page) + 1

    found = await eventually(on_record, "the token is not on record")
    assert (found["type"], found["actor"]["kind"]) == ("token.created", "endpoint")
