"""Whatever comes in wrong gets a clear answer, and nothing happens because of it.

Each test says the exact answer, and that nothing was sent, decrypted or put on record as an
intent. That no card number is in an answer or a log line is asserted for every test of this
folder: in `wire.py` and by `clean_logs`.
"""

import asyncio
import gzip
from collections.abc import Mapping

import pytest

from tests.cards import AMEX, DECLINED, MASTERCARD, VISA, luhn_broken, luhn_completed
from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment, Store, connected
from tests.flows.leaks import first_leak
from tests.flows.merchant import (
    FORM,
    INTENTS,
    JSON,
    METHODS,
    Fields,
    Merchant,
    card,
    form,
    method,
    new_idempotency_key,
    payment,
)
from tests.flows.processor import ProcessorControl
from tests.flows.wire import Reply
from vault.pan import Pan
from vault.tokens import new_pan_like, new_token

pytestmark = pytest.mark.embedded

BODY = b'{"card":{"number":"%s","exp_month":12,"exp_year":2034}}' % VISA.encode()
FULL_WIDTH = "".join(chr(ord(digit) - ord("0") + 0xFF10) for digit in VISA)
ARABIC = "".join(chr(ord(digit) - ord("0") + 0x0660) for digit in VISA)
NUMBER = "card[number]"


async def tokenized(shop: Merchant, body: bytes, **headers: str) -> Reply:
    sent = {"Authorization": f"Bearer {shop.account.secret_key}", "Content-Type": JSON}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await shop.wire("POST", f"{shop.urls.private}/v1/tokens", body, headers=sent)


# --- bodies that are no body --------------------------------------------------------------

BODIES = {
    "not_json": (b"card=" + VISA.encode(), (400, "malformed_request", None, "not_json")),
    "empty": (b"", (400, "malformed_request", None, "not_json")),
    "cut_off": (BODY[:-1], (400, "malformed_request", None, "not_json")),
    "trailing": (BODY + BODY, (400, "malformed_request", None, "not_json")),
    "a_list": (b"[" + BODY + b"]", (400, "malformed_request", None, "not_an_object")),
    "a_number": (VISA.encode(), (400, "malformed_request", None, "not_an_object")),
    "duplicate_key": (
        BODY.replace(b'"number"', b'"number":"' + DECLINED.encode() + b'","number"'),
        (400, "malformed_request", None, "duplicate_key"),
    ),
    "nan": (BODY.replace(b"12", b"NaN"), (400, "malformed_request", None, "number")),
    "infinity": (BODY.replace(b"12", b"1e999"), (400, "malformed_request", None, "number")),
    "long_number": (BODY.replace(b"12", b"1" * 21), (400, "malformed_request", None, "number")),
    "deep": (b'{"card":' * 40 + b"1" + b"}" * 40, (400, "malformed_request", None, "depth")),
    "very_deep": (b"[" * 4000, (400, "malformed_request", None, "depth")),
    "byte_order_mark": (
        b"\xef\xbb\xbf" + BODY,
        (400, "malformed_request", None, "not_utf8"),
    ),
    "utf_16": (BODY.decode().encode("utf-16-le"), (400, "malformed_request", None, "not_json")),
    "not_utf_8": (
        BODY.replace(b"2034", b'"\xff"'),
        (400, "malformed_request", None, "not_utf8"),
    ),
    "null_character": (
        BODY.replace(VISA.encode(), rb"4242\u0000"),
        (400, "malformed_request", None, "null_character"),
    ),
    "unknown_field": (
        BODY.replace(b'"exp_month"', b'"holder":"x","exp_month"'),
        (400, "malformed_request", None, "unknown_field"),
    ),
    "a_card_number_as_a_name": (
        b'{"%s":1}' % VISA.encode(),
        (400, "malformed_request", None, "unknown_field"),
    ),
    "a_card_number_as_a_value_of_a_list": (
        BODY[:-1] + b',"format":"%s"}' % VISA.encode(),
        (422, "invalid_field", "format", "not_allowed"),
    ),
    "no_card": (b"{}", (422, "invalid_field", "card", "missing")),
    "no_number": (
        b'{"card":{"exp_month":12,"exp_year":2034}}',
        (422, "invalid_field", "card.number", "missing"),
    ),
    "a_number_for_a_number": (
        BODY.replace(b'"' + VISA.encode() + b'"', VISA.encode()),
        (422, "invalid_field", "card.number", "must_be_string"),
    ),
    "null_for_a_number": (
        BODY.replace(b'"' + VISA.encode() + b'"', b"null"),
        (422, "invalid_field", "card.number", "must_be_string"),
    ),
    "too_large": (
        BODY.replace(b"2034", b"2034" + b" " * 4096),
        (413, "body_too_large", None, None),
    ),
    "two_megabytes": (b" " * 2_000_000 + BODY, (413, "body_too_large", None, None)),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_body_that_cannot_be_read(
    shop: Merchant, nothing_happens: Witness, store: Store, case: str
) -> None:
    body, told = BODIES[case]
    kept = "SELECT count(*) FROM token WHERE tenant = $1"
    before = await store.fetchval(kept, shop.tenant)
    async with nothing_happens():
        reply = await tokenized(shop, body)
    assert reply.told() == told
    assert reply.problem["retryable"] is False
    assert await store.fetchval(kept, shop.tenant) == before


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("Content_Type", FORM, "content_type"),
        ("Content_Type", "text/plain", "content_type"),
        ("Content_Type", "application/json; charset=utf-7", "content_type"),
        ("Content_Encoding", "gzip", "content_encoding"),
        ("Content_Encoding", "br", "content_encoding"),
        ("Content_Encoding", "gzip, gzip", "content_encoding"),
    ],
)
async def test_a_body_of_another_type_or_encoding(
    shop: Merchant, nothing_happens: Witness, header: str, value: str, reason: str
) -> None:
    body = gzip.compress(BODY) if header == "Content_Encoding" else BODY
    async with nothing_happens():
        reply = await tokenized(shop, body, **{header: value})
    assert reply.told() == (415, "unsupported_media_type", None, reason)


async def test_json_is_taken_as_utf_8(shop: Merchant) -> None:
    for value in ("application/json; charset=utf-8", "Application/JSON"):
        assert (await tokenized(shop, BODY, Content_Type=value)).status == 201


async def test_a_body_that_comes_too_slowly(
    deployment: Deployment, shop: Merchant, nothing_happens: Witness
) -> None:
    async with nothing_happens(), asyncio.timeout(6):  # 3 s to begin, then 1 KiB/s
        own, outward = await asyncio.gather(
            dripped(deployment, shop, "/v1/tokens", JSON),
            dripped(deployment, shop, f"/out/stripe{METHODS}", FORM),
        )
    assert own.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout","retryable":true' in own
    assert b'"code":"request_timeout"' in outward
    assert b"stripe-should-retry: true" in outward.lower()
    assert first_leak(own + outward) is None


async def dripped(deployment: Deployment, shop: Merchant, path: str, media: str) -> bytes:
    """Promise a body, send a card number of it, and then a byte a second; give the answer."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media}\r\n"
        f"Authorization: Bearer {shop.account.secret_key}\r\nContent-Length: 60\r\n\r\n"
    )
    async with connected(deployment, shop.urls.private) as (reader, writer):
        writer.write(head.encode() + VISA.encode())
        answer = asyncio.create_task(reader.readuntil(b"}"))
        while not answer.done():
            writer.write(b" ")
            await asyncio.wait({answer}, timeout=1)
        return answer.result()


# --- cards that are none ------------------------------------------------------------------

CARDS: dict[str, tuple[dict[str, object], str, str]] = {
    "full_width_digits": ({"number": FULL_WIDTH}, "card.number", "not_digits"),
    "arabic_digits": ({"number": ARABIC}, "card.number", "not_digits"),
    "letters": ({"number": f"{VISA}x"}, "card.number", "not_digits"),
    "empty": ({"number": ""}, "card.number", "length"),
    "two_spaces": ({"number": "4242  4242 4242 4242"}, "card.number", "format"),
    "space_at_the_end": ({"number": f"{VISA} "}, "card.number", "format"),
    "no_break_space": ({"number": "4242\u00a0424242424242"}, "card.number", "not_digits"),
    "luhn": ({"number": luhn_broken(VISA[:-1])}, "card.number", "luhn"),
    "too_short": ({"number": "4242424242"}, "card.number", "length"),
    "too_long": ({"number": "4" * 20}, "card.number", "length"),
    "length_wrong_for_the_brand": (
        {"number": luhn_completed(AMEX)},
        "card.number",
        "length",
    ),
    "expired": ({"exp_month": 1, "exp_year": 2020}, "card.exp_year", "expired"),
    "expired_in_short": ({"exp_month": 1, "exp_year": "20"}, "card.exp_year", "expired"),
    "month_13": ({"exp_month": 13}, "card.exp_month", "range"),
    "month_0": ({"exp_month": 0}, "card.exp_month", "range"),
    "month_in_words": ({"exp_month": "May"}, "card.exp_month", "not_digits"),
    "far_away": ({"exp_year": 2098}, "card.exp_year", "too_far"),
    "year_of_three_digits": ({"exp_year": 203}, "card.exp_year", "format"),
    "code_too_short": ({"cvc": "12"}, "card.cvc", "length"),
    "code_of_another_brand": ({"cvc": "1234"}, "card.cvc", "length"),
    "code_too_long": ({"cvc": "12345"}, "card.cvc", "length"),
    "code_in_letters": ({"cvc": "abc"}, "card.cvc", "not_digits"),
    "code_is_a_card_number": ({"cvc": VISA}, "card.cvc", "length"),
}


@pytest.mark.parametrize("case", CARDS)
async def test_a_card_that_is_none(shop: Merchant, nothing_happens: Witness, case: str) -> None:
    unusual, field, reason = CARDS[case]
    async with nothing_happens():
        reply = await shop.api("POST", "/v1/tokens", {"card": card() | unusual})
    assert reply.told() == (422, "card_invalid", field, reason)


@pytest.mark.parametrize(
    ("unusual", "field"),
    [
        ({"exp_month": True}, "card.exp_month"),
        ({"exp_month": 1.5}, "card.exp_month"),
        ({"exp_month": None}, "card.exp_month"),
        ({"cvc": 123}, "card.cvc"),
    ],
)
async def test_a_card_with_a_value_of_another_type(
    shop: Merchant, nothing_happens: Witness, unusual: dict[str, object], field: str
) -> None:
    async with nothing_happens():
        reply = await shop.api("POST", "/v1/tokens", {"card": card() | unusual})
    assert reply.told()[:3] == (422, "invalid_field", field)


# --- the way out: tokens that open nothing ------------------------------------------------


async def refused(
    shop: Merchant,
    fields: Fields | bytes | None,
    code: str,
    *,
    path: str = METHODS,
    verb: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send what must be refused before it is on record; give the answer in Stripe's shape."""
    reply = await shop.out(path, fields, verb=verb, headers=headers)
    assert reply.error["code"] == code, reply.body
    assert reply.error["type"] == "invalid_request_error"
    assert reply.state == "not_sent"
    assert reply.headers["Stripe-Should-Retry"] == "false"
    assert "Panward-Processor-Status" not in reply.headers
    assert "Panward-Authorization" not in reply.headers
    return reply


@pytest.mark.guards("T-21")
async def test_a_token_that_is_unknown_foreign_erased_used_or_over(
    shop: Merchant, other_shop: Merchant, nothing_happens: Witness, store: Store
) -> None:
    foreign, erased, over = await other_shop.token(), await shop.token(), await shop.token()
    used = await shop.token(single_use=True)
    assert (await shop.out(METHODS, method(used))).status == 200
    await shop.api("DELETE", f"/v1/tokens/{erased}")
    await store.execute("UPDATE token SET expires_at = now() WHERE id = $1", over)
    answers = []
    async with nothing_happens():
        for token in (new_token("test"), foreign, erased, used, over, new_token("live")):
            for headers in (None, {"Idempotency-Key": new_idempotency_key()}):
                reply = await refused(shop, method(token), "token_unknown", headers=headers)
                answers.append((reply.status, reply.error["type"], reply.error["message"]))
    assert {status for status, _, _ in answers} == {400}


@pytest.mark.guards("T-21")
async def test_a_pan_like_value_that_is_nobodys(
    shop: Merchant, other_shop: Merchant, nothing_happens: Witness
) -> None:
    foreign = (await other_shop.tokenize(format="pan_like"))["pan_like"]
    async with nothing_happens():
        for name in (new_pan_like(Pan.parse(VISA)), foreign):
            await refused(shop, method(name), "token_unknown")


@pytest.mark.parametrize(
    "value",
    [VISA, " ".join([VISA[:4], VISA[4:8], VISA[8:12], VISA[12:]]), FULL_WIDTH, ARABIC, f"{VISA} "],
    ids=["plain", "in_fours", "full_width", "arabic", "space_at_the_end"],
)
async def test_a_raw_card_number_where_a_token_belongs(
    shop: Merchant, nothing_happens: Witness, value: str
) -> None:
    async with nothing_happens():
        for encode_brackets in (False, True):
            body = form(method(value), encode_brackets=encode_brackets)
            reply = await refused(shop, body, "raw_card_number")
            assert (reply.status, reply.error["param"]) == (400, NUMBER)
        start = "payment_method_data[card][number]"
        reply = await refused(shop, payment(value), "raw_card_number", path=INTENTS)
        assert reply.error["param"] == start


@pytest.mark.guards("T-28")
async def test_what_is_neither_a_token_nor_a_number(
    shop: Merchant, nothing_happens: Witness
) -> None:
    one, two = await shop.token(), await shop.token()
    wrong = (f"{one}{two}", f"{one} {two}", f" {one}", f"{one}0", one.upper(), one[4:], "x", "1234")
    async with nothing_happens():
        for value in wrong:
            reply = await refused(shop, method(value), "token_unknown")
            assert (reply.status, reply.error["param"]) == (400, NUMBER)


@pytest.mark.guards("T-28")
async def test_a_declared_field_twice(shop: Merchant, nothing_happens: Witness) -> None:
    one, two = await shop.token(), await shop.token()
    twice = [*method(one).items(), (NUMBER, two)]
    async with nothing_happens():
        for body in (form(twice), form(method(one)) + b"&card%5Bnumber%5D=" + two.encode()):
            reply = await refused(shop, body, "field_repeated")
            assert reply.error["param"] == NUMBER


@pytest.mark.guards("T-28", "T-41")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("card[name]", "card[name]"),
        ("billing_details[name]", "billing_details[name]"),
        ("metadata[order][id]", "metadata[order][id]"),
        ("return_url", "return_url"),
        ("expand[0]", "expand[0]"),
        ("card[number][0]", "card[number][0]"),
        ("card", "card"),
        ("", "body"),
        ("<script>", "body"),
    ],
)
async def test_a_token_in_an_undeclared_field(
    shop: Merchant, nothing_happens: Witness, name: str, shown: str
) -> None:
    token = await shop.token()
    async with nothing_happens():
        for value in (token, f"https://shop.example/?card={token}&x=1"):
            reply = await refused(shop, method(token) | {name: value}, "token_undeclared")
            assert (reply.status, reply.error["param"]) == (400, shown)


@pytest.mark.guards("T-28")
async def test_a_token_as_a_name_or_percent_encoded(
    shop: Merchant, nothing_happens: Witness
) -> None:
    token = await shop.token()
    encoded = "".join(f"%{ord(character):02x}" for character in token).encode()
    async with nothing_happens():
        reply = await refused(shop, method(token) | {token: "x"}, "token_undeclared")
        assert reply.error["param"] == "body"
        body = form(method(token)) + b"&metadata[" + encoded + b"]=x"
        assert (await refused(shop, body, "token_undeclared")).error["param"] == "body"
        body = form(method(token)) + b"&return_url=" + encoded
        assert (await refused(shop, body, "token_undeclared")).error["param"] == "return_url"


@pytest.mark.guards("T-28", "T-41")
async def test_a_token_in_the_path_the_query_or_a_header(
    shop: Merchant, nothing_happens: Witness
) -> None:
    token = await shop.token()
    async with nothing_happens():
        for verb, path, headers, shown in (
            ("POST", f"/v1/payment_intents/{token}/confirm", {}, "path"),
            ("GET", f"/v1/payment_intents/{token}", {}, "path"),
            ("POST", f"{METHODS}?card[number]={token}", {}, "card[number]"),
            ("GET", f"/v1/customers?email={token}", {}, "email"),
            ("POST", METHODS, {"Stripe-Version": token}, "stripe-version"),
            ("POST", METHODS, {"Idempotency-Key": token}, "idempotency-key"),
        ):
            fields = {"type": "card"} if verb == "POST" else None
            reply = await refused(
                shop, fields, "token_undeclared", path=path, verb=verb, headers=headers
            )
            assert reply.error["param"] == shown


@pytest.mark.guards("T-28")
async def test_a_token_in_a_call_that_is_no_declared_operation(
    shop: Merchant, nothing_happens: Witness
) -> None:
    token = await shop.token()
    async with nothing_happens():
        for name in ("source[number]", "description", "metadata[a]"):
            reply = await refused(shop, {name: token}, "token_undeclared", path="/v1/products")
            assert reply.error["param"] == name
        headers = {"Content-Type": "application/octet-stream"}
        body = b"\xff" + token.encode()
        reply = await refused(shop, body, "token_undeclared", path="/v1/files", headers=headers)
        assert reply.error["param"] == "body"


@pytest.mark.parametrize(
    ("fields", "code", "shown"),
    [
        ({"card[cvc]": "123"}, "raw_cvc", "card[cvc]"),
        ({"card[cvc]": "other"}, "token_mismatch", "card[cvc]"),
        ({"card[exp_month]": "other"}, "token_mismatch", "card[exp_month]"),
        ({"card[exp_year]": "other"}, "token_mismatch", "card[exp_year]"),
        ({"card[exp_year]": "20344"}, "invalid_field", "card[exp_year]"),
        ({"card[exp_month]": VISA}, "invalid_field", "card[exp_month]"),
        ({"card[cvc]": VISA}, "raw_cvc", "card[cvc]"),
        ({NUMBER: "", "card[cvc]": "000"}, "raw_cvc", "card[cvc]"),
        ({NUMBER: "", "card[exp_year]": "other"}, "token_mismatch", "card[exp_year]"),
    ],
)
async def test_what_may_not_stand_beside_a_token(
    shop: Merchant, nothing_happens: Witness, fields: dict[str, str], code: str, shown: str
) -> None:
    token, other = await shop.token(), await shop.token()
    wrong = {name: other if value == "other" else value for name, value in fields.items()}
    async with nothing_happens():
        reply = await refused(shop, method(token) | wrong, code)
    assert (reply.status, reply.error["param"]) == (400, shown)


# --- the way out: requests that are none --------------------------------------------------


async def test_a_body_of_another_type_on_the_way_out(
    shop: Merchant, nothing_happens: Witness
) -> None:
    token = await shop.token()
    body = form(method(token))
    async with nothing_happens():
        for media in (JSON, "text/plain", "multipart/form-data; boundary=x", f"{FORM}; charset=x"):
            headers = {"Content-Type": media}
            reply = await refused(shop, body, "unsupported_media_type", headers=headers)
            assert reply.error["param"] == "content-type"
        packed = await shop.out(METHODS, gzip.compress(body), headers={"Content-Encoding": "gzip"})
        assert packed.told() == (415, "unsupported_media_type", None, "content_encoding")


async def test_a_form_that_is_none(shop: Merchant, nothing_happens: Witness) -> None:
    token = (await shop.token()).encode()
    async with nothing_happens():
        for body in (b"card%5=1&card[number]=" + token, b"%ff=1", b"a=1&" * 1000):
            reply = await refused(shop, body, "malformed_request")
            assert (reply.status, reply.error["param"]) == (400, "body")
        broken = form(method(token.decode())).replace(token, token + b"%zz")
        await refused(shop, broken, "token_unknown")


async def test_a_body_larger_than_the_route_takes(shop: Merchant, nothing_happens: Witness) -> None:
    token = await shop.token()
    async with nothing_happens():
        fields = method(token) | {"metadata[a]": "x" * 2_000_000}
        await refused(shop, fields, "body_too_large")


@pytest.mark.parametrize(
    "path",
    ["/out/nowhere/v1/charges", "/out/Stripe/v1/charges", "/out/stripe", "/out//v1/charges"],
)
async def test_a_route_that_does_not_exist(
    shop: Merchant, nothing_happens: Witness, path: str
) -> None:
    token = await shop.token()
    async with nothing_happens():
        reply = await shop.api("POST", path, method(token))
    assert reply.told() == (404, "not_found", None, None)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/Payment_Methods",
        "/V1/charges",
        "/v1//charges",
        "/v1/charges/",
        "/v1/./charges",
        "/v1/x/../charges",
        "/v1/%63harges",
        "/v1/charges%2f",
        "/v1/charges;x",
        "//evil.example/v1/charges",
    ],
)
async def test_a_path_that_a_processor_may_read_differently(
    deployment: Deployment, shop: Merchant, nothing_happens: Witness, path: str
) -> None:
    """It would move money with nothing on record, or go elsewhere."""
    async with nothing_happens():
        reply = await raw_out(deployment, shop, path)
    assert reply.startswith(b"HTTP/1.1 404 ")


@pytest.mark.guards("T-26")
async def test_an_idempotency_key_that_is_none(
    deployment: Deployment, shop: Merchant, nothing_happens: Witness
) -> None:
    token = await shop.token()
    async with nothing_happens():
        for key in ("", "k" * 256, "schl\u00fcssel"):
            headers = {"Idempotency-Key": key}
            await refused(shop, method(token), "invalid_field", headers=headers)
        keys = "Idempotency-Key: one\r\nIdempotency-Key: two\r\n"
        twice = await raw_out(deployment, shop, METHODS, keys, form(method(token)))
    assert b'"code":"invalid_field"' in twice


@pytest.mark.guards("T-26")
async def test_an_idempotency_key_with_another_body(
    shop: Merchant, nothing_happens: Witness, processor: ProcessorControl
) -> None:
    token, other = await shop.token(), await shop.token(MASTERCARD)
    key = new_idempotency_key()
    assert (await shop.pay(payment(token), key=key)).status == 200
    async with nothing_happens():
        for fields in (payment(other), payment(token) | {"amount": 2000}):
            reply = await shop.pay(fields, key=key)
            assert reply.status == 400
            assert reply.error["type"] == "idempotency_error"
            assert reply.error["code"] == "idempotency_key_reused"
            assert reply.headers["Stripe-Should-Retry"] == "false"
            assert reply.state == "not_sent"


async def raw_out(
    deployment: Deployment, shop: Merchant, path: str, more: str = "", body: bytes = b"amount=1"
) -> bytes:
    """Call a processor with a request as it is written here; give the whole answer."""
    head = (
        f"POST /out/stripe{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Authorization: Bearer {shop.account.secret_key}\r\nContent-Type: {FORM}\r\n"
        f"Content-Length: {len(body)}\r\n{more}\r\n"
    )
    async with connected(deployment, shop.urls.private) as (reader, writer):
        writer.write(head.encode() + body)
        return await reader.read()
