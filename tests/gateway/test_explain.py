import json
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call import Call, CallRefused, Refusal, read_call
from gateway.explain import Explanation, explain
from gateway.order import Order, pass_through_refusal, read_order
from gateway.preset import Preset
from gateway.preset_conditions import Condition
from tests import cards
from tests.gateway.preset_bodies import PRESETS, Case, cases
from vault.pan import Pan
from vault.tokens import pan_like_of, token_of

TOKEN = token_of("test", 4)
LIVE = token_of("live", 4)
PAN_LIKE = pan_like_of(Pan.parse(cards.VISA), lambda bound: bound // 3)
STRIPE = PRESETS["stripe"]
ADYEN = PRESETS["adyen"]
FORM = "application/x-www-form-urlencoded"
GROUPS = " ".join(cards.VISA[at : at + 4] for at in range(0, 16, 4))
LOGIN = "hunter2hunter2"


def _call(
    body: str | bytes = "",
    path: str = "/v1/payment_methods",
    type_: str = FORM,
    headers: tuple[tuple[str, str], ...] = (),
) -> Call:
    data = body.encode() if isinstance(body, str) else body
    return Call("POST", path, "", (("Content-Type", type_), *headers), data)


def _told(call: Call, chosen: Preset = STRIPE) -> Explanation:
    return explain(chosen, call, env="test")


def _rows(told: Explanation) -> dict[str, tuple[str, str, str | None]]:
    return {each.field: (each.role, each.holds, each.becomes) for each in told.fields}


# --- what is told -------------------------------------------------------------------------


def test_a_call_with_tokens_would_be_sent() -> None:
    body = (
        f"card[number]={TOKEN}&card[cvc]=000&card[exp_month]={TOKEN}&card[exp_year]=2030"
        f"&description=see+{TOKEN}&billing_details[name]=A+B"
    )
    told = _told(_call(body, headers=(("Authorization", "Bearer x"), ("Cookie", "a=b"))))
    assert (told.operation, told.kind, told.path) == (
        "payment_methods.create",
        "store_card",
        "/v1/payment_methods",
    )
    assert (told.verdict, told.with_tokens, told.is_ready) == ("sent", "sent", True)
    assert _rows(told) == {
        "card[number]": ("number", "token", "card_number"),
        "card[cvc]": ("cvc", "zeros", "stored_code"),
        "card[exp_month]": ("exp_month", "token", "expiry_date"),
        "card[exp_year]": ("exp_year", "digits", "unchanged"),
        "description": ("merchant_reference", "text_with_token", "unchanged"),
    }
    assert (told.headers_dropped, told.headers_replaced) == (("cookie",), ("authorization",))
    assert (told.idempotency, told.replay_seconds) == ("idempotency-key", 86_400)


def test_a_call_with_a_number_lacks_a_token_and_nothing_else() -> None:
    body = f"card[number]={quote(GROUPS)}&card[cvc]=737&card[exp_month]=12&card[exp_year]=2030"
    told = _told(_call(body))
    assert (told.verdict, told.with_tokens, told.is_ready) == ("raw_card_number", "sent", True)
    assert told.words.endswith(": card[number]")
    assert _rows(told) == {
        "card[number]": ("number", "card_like", "card_number"),
        "card[cvc]": ("cvc", "digits", "stored_code"),
        "card[exp_month]": ("exp_month", "digits", "unchanged"),
        "card[exp_year]": ("exp_year", "digits", "unchanged"),
    }
    assert told.card_like == ()


@pytest.mark.parametrize(
    ("body", "verdict", "with_tokens"),
    [
        (f"card[number]={cards.VISA}&a={TOKEN}", "token_undeclared", "token_undeclared"),
        (f"card[number]={cards.VISA}&billing={TOKEN}", "raw_card_number", "token_undeclared"),
        (f"card[number]={cards.VISA}&card[cvc]=x", "raw_card_number", "raw_cvc"),
        (f"card[number]={cards.VISA}&card[exp_year]=x", "raw_card_number", "invalid_field"),
        (f"card[number]={cards.VISA}&card[number]={cards.VISA}", "field_repeated", None),
        ("card[number]=tok_visa", "token_unknown", None),
        ("card[cvc]=737", "raw_cvc", "raw_cvc"),
        (f"card[number]={LIVE}", "token_unknown", None),
        ("%zz", "malformed_request", None),
    ],
)
def test_what_tokens_do_not_help_is_still_refused(
    body: str, verdict: str, with_tokens: str | None
) -> None:
    told = _told(_call(body))
    if verdict == "token_undeclared":  # the number is looked at first
        verdict = "raw_card_number"
    assert (told.verdict, told.with_tokens) == (verdict, with_tokens or verdict)
    assert not told.is_ready
    assert all(each.becomes is None for each in told.fields)


def test_the_code_of_a_card_that_was_a_number_may_be_typed_too() -> None:
    told = _told(_call(f"card[number]={TOKEN}&card[cvc]=737"))
    assert (told.verdict, told.with_tokens, told.is_ready) == ("raw_cvc", "sent", True)


@pytest.mark.parametrize(
    ("number", "holds"),
    [
        (TOKEN, "token"),
        (LIVE, "other_token"),
        (TOKEN[:-1] + "u", "value"),
        (f"{TOKEN}{TOKEN}", "text_with_token"),
        (PAN_LIKE, "pan_like"),
        (cards.VISA, "card_like"),
        ("4" * 16, "card_like"),
        ("", "nothing"),
        ("1234", "digits"),
        ("tok_visa", "value"),
    ],
)
def test_what_a_field_holds_is_told_by_what_it_looks_like(number: str, holds: str) -> None:
    assert _rows(_told(_call(f"card[number]={number}")))["card[number]"][1] == holds


def test_a_card_number_where_none_is_declared_is_pointed_at() -> None:
    call = _call(
        f"card[number]={TOKEN}&metadata[order_id]={cards.VISA}&a={cards.AMEX}&{cards.VISA_ALT}=1",
        headers=(("X-Card", cards.VISA),),
    )
    told = _told(replace(call, query=f"a={cards.VISA}"))
    assert told.verdict == "sent"
    assert told.card_like == ("query", "x-card", "metadata[order_id]", "a", "body")
    assert _rows(told)["a"] == ("undeclared", "card_like", "unchanged")
    assert _rows(told)["metadata[order_id]"] == ("merchant_reference", "card_like", "unchanged")


@pytest.mark.parametrize(
    "body",
    [
        f"<a><!-- {cards.VISA} --></a>",
        f"<a><?x {cards.VISA}?></a>",
        f'<a b="{cards.VISA}"/>',
        f"<a><![CDATA[{cards.VISA}]]></a>",
        f"<a><c-{cards.VISA}/></a>",
    ],
)
def test_also_where_it_stands_in_no_field(body: str) -> None:
    told = _told(_call(body, "/merchants/a/transactions", "text/xml"), PRESETS["braintree"])
    assert told.card_like or told.verdict == "unsupported_media_type"
    told = _told(_call(body, "/merchants/a/transactions", "application/xml"), PRESETS["braintree"])
    assert told.card_like in {("body",), ("a",), ("a.@b", "body"), ("a.@b",), ("a", "body")}


def test_a_call_of_another_processor_passes_and_is_pointed_at() -> None:
    body = json.dumps({"paymentMethod": {"number": cards.VISA}})
    told = _told(_call(body, "/v72/payments", "application/json"))
    assert (told.operation, told.path, told.verdict) == (None, None, "sent")
    assert (told.on_record, told.card_like) == (False, ("body",))
    told = _told(_call(body, "/v72/payments", "application/json"), ADYEN)
    assert (told.operation, told.verdict) == ("payments", "raw_card_number")


@pytest.mark.parametrize(
    ("call", "verdict"),
    [
        (_call("", "/V1/refunds"), "not_found"),
        (_call("", "/v1/../refunds"), "not_found"),
        (_call(f"a={TOKEN}", "/v1/products"), "token_undeclared"),
        (_call("{}", type_="application/json"), "unsupported_media_type"),
        (_call("a=1", type_=""), "unsupported_media_type"),
        (_call("a" * 2_000_000), "body_too_large"),
    ],
)
def test_a_refusal_is_told_with_its_code(call: Call, verdict: str) -> None:
    told = _told(call)
    assert (told.verdict, told.with_tokens, told.is_ready) == (verdict, verdict, False)


def test_a_preset_of_one_s_own_may_go_by_json_path() -> None:
    operation = msgspec.structs.replace(
        ADYEN.operations[0], when=(Condition(path="$.a", exists=True),)
    )
    own = msgspec.structs.replace(ADYEN, operations=(operation,))
    told = _told(_call('{"a":1,"b":1,"b":2}', "/v68/payments", "application/json"), own)
    assert told.verdict == "malformed_request"


# --- the gateway's own verdict ------------------------------------------------------------

CASES = cases()
NUMBERS = (TOKEN, PAN_LIKE, cards.VISA, "1234", "", "tok", LIVE)


def _in_earnest(case: Case, call: Call) -> str:
    read = read_call(case.preset, call)
    if isinstance(read, CallRefused):
        return read.code.value
    asked: Order | CallRefused | None = pass_through_refusal(read)
    if read.operation is not None:
        asked = read_order(read, read.operation, env="test")
    return asked.code.value if isinstance(asked, CallRefused) else "sent"


@settings(max_examples=150)
@given(
    case=st.sampled_from(CASES),
    number=st.sampled_from(NUMBERS),
    code=st.sampled_from(["000", "737", ""]),  # a token there would be another one
    more=st.sampled_from(["", TOKEN, cards.VISA]),
)
def test_the_verdict_is_the_gateway_s(case: Case, number: str, code: str, more: str) -> None:
    call = case.call(case.body({"number": number, "cvc": code}, {case.beside: more}))
    told = explain(case.preset, call, env="test")
    assert told.verdict == _in_earnest(case, call)
    assert told.operation == case.operation.name
    with_tokens = {cards.VISA: TOKEN}.get(number, number), {"737": "000"}.get(code, code)
    same = case.call(
        case.body(dict(zip(("number", "cvc"), with_tokens, strict=True)), {case.beside: more})
    )
    if told.verdict in {Refusal.RAW_CARD_NUMBER, Refusal.RAW_CVC}:
        assert told.with_tokens == _in_earnest(case, same)
    assert told.is_ready is (_in_earnest(case, same) == "sent")
    rows = {each.role: each for each in told.fields}
    if told.is_ready and number:
        assert rows["number"].becomes == ("unchanged" if number == "1234" else "card_number")


def test_a_number_of_json_gets_a_token_in_quotes() -> None:
    case = next(each for each in CASES if each.name.startswith("adyen-payments-0"))
    body = case.body({"number": cards.VISA}).replace(b'"4', b"4").replace(b'2"', b"2")
    told = explain(case.preset, case.call(body), env="test")
    assert (told.verdict, told.with_tokens) == ("raw_card_number", "sent")
    case = next(each for each in CASES if each.in_query)
    quoted = f'\\"{cards.VISA}\\"'.encode()
    body = case.body({"number": cards.VISA}).replace(quoted, cards.VISA.encode())
    told = explain(case.preset, case.call(body), env="test")
    assert (told.verdict, told.with_tokens) == ("raw_card_number", "sent")


# --- no value of the call -----------------------------------------------------------------

SECRETS = (cards.VISA, cards.AMEX, TOKEN[9:], PAN_LIKE, LOGIN, "s3cr3t")


def _hostile() -> Iterator[tuple[str, Call]]:
    number, token = cards.VISA, TOKEN
    for name in PRESETS:
        yield name, Call(f"P{number}", f"/v1/{number}", f"a={number}&{token}=1", (), b"")
        yield name, _call(number, f"/{number}", number)
    headers = (
        (f"X-Forwarded-{number}", "a"),
        (f"x-{token}", token),
        ("Authorization", f"Bearer {LOGIN}"),
        ("Cookie", LOGIN),
        ("Host", f"{number}.example"),
        ("Idempotency-Key", number),
    )
    body = (
        f"card[number]={number}&card[cvc]=s3cr3t&{number}={number}&a[{token}]={token}"
        f"&metadata[{number}]={token}&description={GROUPS}&{quote(GROUPS)}=1&amount={number}"
    )
    yield "stripe", _call(body, headers=headers)
    yield "stripe", _call(body, "/v1/products", headers=headers)
    keys = {
        number: number,
        "a": {token: token},
        LOGIN + number: [number],
        "amount": {"value": LOGIN},
    }
    yield "adyen", _call(json.dumps(keys), "/v72/payments", "application/json", headers)
    yield "adyen", _call(json.dumps(keys)[:-1], "/v72/payments", "application/json", headers)
    login = f"<merchantAuthentication><name>{LOGIN}</name><transactionKey>s3cr3t</transactionKey>"
    login += "</merchantAuthentication>"
    card = f"<cardNumber>{number}</cardNumber><cardCode>s3cr3t</cardCode>"
    for inside in (
        f"<!-- {number} --><?{token} {number}?><c{number} d{number}='{token}'/>",
        f"<transactionRequest><payment><creditCard>{card}</creditCard></payment></transactionRequest>",
        f"<refId>{LOGIN}</refId>",
    ):
        xml = f"<createTransactionRequest>{login}{inside}</createTransactionRequest>"
        yield "authorize_net", _call(xml, "/xml/v1/request.api", "text/xml", headers)


@pytest.mark.guards("T-15")
@pytest.mark.parametrize(("name", "call"), list(_hostile()))
def test_no_value_of_a_call_is_ever_told(name: str, call: Call) -> None:
    told = explain(PRESETS[name], call, env="test")
    text = msgspec.json.encode(told).decode() + repr(told)
    for secret in SECRETS:
        assert secret not in text
        assert secret.lower() not in text.lower()


@settings(max_examples=150)
@given(
    case=st.sampled_from(CASES),
    places=st.dictionaries(
        st.sampled_from(["number", "cvc", "exp_month", "exp_year", "expiry"]),
        st.sampled_from([cards.VISA, TOKEN, PAN_LIKE, LOGIN, f"a {TOKEN}", GROUPS]),
    ),
    more=st.sampled_from([cards.AMEX, TOKEN, LOGIN]),
)
def test_none_of_any_preset_s_fields_either(case: Case, places: dict[str, str], more: str) -> None:
    call = case.call(case.body(places, {case.beside: more}))
    text = msgspec.json.encode(explain(case.preset, call, env="test")).decode()
    assert not any(secret in text for secret in (*SECRETS, GROUPS))


@given(st.binary(max_size=120), st.sampled_from(sorted(PRESETS)), st.text(max_size=20))
def test_any_call_is_told(body: bytes, name: str, path: str) -> None:
    chosen = PRESETS[name]
    for operation in chosen.operations[:3]:
        where = operation.paths[0].replace("{version}", "1").replace("{id}", "a")
        for type_ in operation.content_types or chosen.content_types:
            call = Call(operation.method, where, path, (("content-type", type_),), body)
            assert isinstance(explain(chosen, call, env="test"), Explanation)
            assert explain(chosen, replace(call, path=path), env="test").words


# --- names --------------------------------------------------------------------------------


def test_a_declared_field_without_a_showable_name_is_told_by_its_selector() -> None:
    case = next(each for each in CASES if each.name.startswith("worldpay_wpg-orders.submit"))
    body = case.body({"number": cards.VISA, "exp_month": "12"})
    told = explain(case.preset, case.call(body), env="test")
    assert "paymentService.submit.order.paymentDetails.*.expiryDate.date.@month" in _rows(told)
    assert "paymentService.submit.order.@orderCode" in _rows(told)
    in_query = next(each for each in CASES if each.in_query)
    call = in_query.call(in_query.body({"number": TOKEN}))
    assert "query:*.input.creditCard.number" in _rows(explain(in_query.preset, call, env="test"))


@pytest.mark.parametrize("type_", ["", "text/plain"])
def test_a_body_without_its_content_type_is_told_which_there_are(type_: str) -> None:
    told = _told(_call(f"card[number]={cards.VISA}", type_=type_))
    assert (told.operation, told.verdict) == ("payment_methods.create", "unsupported_media_type")
    assert told.words.endswith(f". It takes {FORM}")
    assert told.card_like == ("body",)
