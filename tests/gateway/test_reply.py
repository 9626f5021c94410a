import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import preset
from gateway.order import OpenedCard
from gateway.preset import Operation
from gateway.reply import (
    References,
    Reflected,
    Scrubbed,
    Settled,
    UnknownOutcome,
    read_result,
    scrub,
)
from tests import cards
from vault.authorization import Result
from vault.card import Expiry
from vault.pan import Cvc, Pan
from vault.tokens import token_of

TOKEN = token_of("test", 4)
OTHER = token_of("test", 5)
NUMBER = cards.VISA_ALT
CARD = OpenedCard(TOKEN, Pan.parse(NUMBER), Cvc.parse("737"), Expiry(2031, 3))
SECOND = OpenedCard(OTHER, Pan.parse(cards.AMEX), None, Expiry(2030, 12))
GROUPS = [NUMBER[at : at + 4] for at in range(0, 16, 4)]
STRIPE = preset.load("stripe")


def _scrubbed(body: str | bytes, *sent: OpenedCard) -> Scrubbed:
    raw = body.encode() if isinstance(body, str) else body
    scrubbed = scrub((), raw, sent or (CARD,))
    assert isinstance(scrubbed, Scrubbed)
    return scrubbed


def _operation(path: str) -> Operation:
    operation = STRIPE.match("POST", path)
    assert operation is not None
    return operation


# --- scrubbing ----------------------------------------------------------------------------


def test_a_reply_without_an_echo_is_not_touched() -> None:
    headers = (("Request-Id", "req_1"), ("X", "y"))
    body = b'\xef\xbb\xbf{ "id":"pi_1", "cvc": "737", "amount":737 }\n'
    assert scrub(headers, body, (CARD, SECOND)) == Scrubbed(headers, body, 0, 0)


@pytest.mark.guards("T-40")
def test_another_number_that_looks_like_a_card_is_counted_and_keeps_its_bytes() -> None:
    body = f'{{"reference":"{cards.MASTERCARD}"}}'.encode()
    assert scrub((), body, (CARD,)) == Scrubbed((), body, 0, 1)
    assert scrub((), body, ()) == Scrubbed((), body, 0, 1)


@pytest.mark.guards("T-40", "F-28")
@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (f'{{"number":"{NUMBER}"}}', f'{{"number":"{TOKEN}"}}'),
        (f'{{"number": {NUMBER} }}', f'{{"number": "{TOKEN}" }}'),
        (f'{{"{NUMBER}":1}}', f'{{"{TOKEN}":1}}'),
        (f'{{"m":"card \\"{NUMBER}\\" declined"}}', f'{{"m":"card \\"{TOKEN}\\" declined"}}'),
        (f'{{"m":"{" ".join(GROUPS)}."}}', f'{{"m":"{TOKEN}."}}'),
        (f'{{"m":"\\u003{"-".join(GROUPS)}"}}', f'{{"m":"{TOKEN}"}}'),
        (f'{{"url":"https://x/?n=%34{NUMBER[1:]}&a=1"}}', f'{{"url":"https://x/?n={TOKEN}&a=1"}}'),
        (f"card[number]={NUMBER}&a=1", f"card[number]={TOKEN}&a=1"),
        (f"<card>{NUMBER}</card>", f"<card>{TOKEN}</card>"),
        (f'{{"broken":"{NUMBER}"', f'{{"broken":"{TOKEN}"'),
        (NUMBER, f'"{TOKEN}"'),
    ],
)
def test_an_echo_becomes_the_token(text: str, cleaned: str) -> None:
    scrubbed = _scrubbed(text)
    assert scrubbed.body == cleaned.encode()
    assert scrubbed.echoes == 1


@pytest.mark.guards("T-40", "F-28")
def test_every_echo_of_every_card_is_replaced_and_the_rest_stays() -> None:
    body = f'\xef\xbb\xbf{{"a" : "{NUMBER} {NUMBER}", "b":[{cards.AMEX},1.50], "a":null}}\n'
    scrubbed = _scrubbed(body.encode("latin-1"), CARD, SECOND)
    expected = f'\xef\xbb\xbf{{"a" : "{TOKEN} {TOKEN}", "b":["{OTHER}",1.50], "a":null}}\n'
    assert scrubbed.body == expected.encode("latin-1")
    assert scrubbed.echoes == 3


@pytest.mark.guards("T-40", "F-28")
@pytest.mark.parametrize(
    "text",
    [
        f'{{"n":"{base64.b64encode(NUMBER.encode()).decode()}"}}',
        f'{{"n":"{NUMBER.encode().hex()}"}}',
        f'{{"n":"{NUMBER[::-1]}"}}',
        f'{{"n":["{NUMBER[:8]}","{NUMBER[8:]}"]}}',
        f'{{"n":[{",".join(NUMBER)}]}}',
        f'{{"n":-{NUMBER}}}',
        f'{{"n":{NUMBER}0.5}}',
        f'{{"n":{NUMBER[0]}.{NUMBER[1:]}e15}}',
        f'{{"n":"{NUMBER}","again":"{NUMBER[::-1]}"}}',
        '{"n":"' + "".join(f"\\\\u003{digit}" for digit in NUMBER) + '"}',
    ],
)
def test_an_echo_that_cannot_be_replaced_withholds_the_reply(text: str) -> None:
    assert isinstance(scrub((), text.encode(), (CARD,)), Reflected)
    utf_16 = f'{{"n":"{NUMBER}"}}'.encode("utf-16")
    assert isinstance(scrub((), utf_16, (CARD,)), Reflected)


@pytest.mark.guards("T-40", "F-28")
def test_an_echo_in_a_header_becomes_the_token() -> None:
    headers = (("Location", f"/cards/{NUMBER}"), ("X-Echo", f"n={' '.join(GROUPS)};cvc=737"))
    scrubbed = scrub(headers, b"{}", (CARD,))
    assert isinstance(scrubbed, Scrubbed)
    assert scrubbed.headers == (("Location", f"/cards/{TOKEN}"), ("X-Echo", f"n={TOKEN};cvc=000"))
    assert scrubbed.echoes == 2


@pytest.mark.guards("T-40", "F-28")
@pytest.mark.parametrize(
    "header", [("X-Echo", base64.b64encode(NUMBER.encode()).decode()), (f"X-{NUMBER}", "1")]
)
def test_one_that_cannot_be_replaced_there_withholds_the_reply(header: tuple[str, str]) -> None:
    assert isinstance(scrub((header,), b"{}", (CARD,)), Reflected)


@pytest.mark.parametrize(
    ("beside", "cleaned"),
    [
        ('"cvc":"737"', '"cvc":"000"'),
        ('"cvc":737', '"cvc":0'),
        ('"card_code":737', '"card_code":0'),
        ('"amount":737', '"amount":737'),
        ('"request":"cvc=737&x=1"', '"request":"cvc=000&x=1"'),
        ('"request":"cvc%3D737"', '"request":"cvc%3D000"'),
        ('"request":"cvc:\\n737"', '"request":"cvc:\\n000"'),
        ('"id":"ch_7371","t":17370,"u":"x737","v":"0737"', None),
    ],
)
def test_who_echoes_the_number_does_not_get_its_code_through(
    beside: str, cleaned: str | None
) -> None:
    scrubbed = _scrubbed(f'{{"number":"{NUMBER}",{beside}}}')
    assert scrubbed.body == f'{{"number":"{TOKEN}",{cleaned or beside}}}'.encode()
    json.loads(scrubbed.body)


def test_a_code_in_other_text_is_zeros_too() -> None:
    scrubbed = _scrubbed(f"number={NUMBER}&cvc=737&amount=7370")
    assert scrubbed.body == f"number={TOKEN}&cvc=000&amount=7370".encode()


def test_a_card_without_a_code_changes_no_other_number() -> None:
    scrubbed = _scrubbed(f"{cards.AMEX} 737 0000", SECOND)
    assert scrubbed.body == f"{OTHER} 737 0000".encode()


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from([NUMBER, f"n={NUMBER}.", " ".join(GROUPS), int(NUMBER), "737", 737]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from([NUMBER, "cvc"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@pytest.mark.guards("T-40")
@given(_JSON, st.sampled_from([(", ", " : "), (",", ":")]))
def test_whatever_the_reply_the_number_does_not_come_back(
    document: object, separators: tuple[str, str]
) -> None:
    body = json.dumps(document, separators=separators).encode()
    scrubbed = scrub((), body, (CARD,))
    if isinstance(scrubbed, Scrubbed):
        assert NUMBER.encode() not in scrubbed.body
        json.loads(scrubbed.body)
        if not scrubbed.echoes:
            assert scrubbed.body == body


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_are_scrubbed_or_withheld(before: bytes, after: bytes) -> None:
    scrubbed = scrub((), before + NUMBER.encode() + after, (CARD,))
    if isinstance(scrubbed, Scrubbed):
        assert NUMBER.encode() not in scrubbed.body
        assert scrubbed.echoes >= 1


def test_nothing_of_a_reply_is_printed() -> None:
    scrubbed = scrub((("X", "secret"),), b"secret", ())
    reflected = scrub((), NUMBER[::-1].encode(), (CARD,))
    assert "secret" not in repr(scrubbed)
    assert repr(reflected) == "Reflected()"


# --- what it means ------------------------------------------------------------------------

CREATE = "/v1/payment_intents"
CAPTURE = "/v1/payment_intents/pi_1/capture"
CANCEL = "/v1/payment_intents/pi_1/cancel"
METHODS = "/v1/payment_methods"
SETUP = "/v1/setup_intents"
CHARGES = "/v1/charges"
REFUNDS = "/v1/refunds"


def _read(path: str, status: int, document: object) -> Settled | UnknownOutcome:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_result(STRIPE, _operation(path), status, Scrubbed((), body, 0, 0))


@pytest.mark.parametrize(
    ("path", "status", "document", "result"),
    [
        (METHODS, 200, {"id": "pm_1"}, Result.STORED),
        (METHODS, 402, {"error": {"type": "card_error"}}, Result.DECLINED),
        (CREATE, 200, {"status": "succeeded"}, Result.APPROVED),
        (CREATE, 200, {"status": "requires_capture"}, Result.APPROVED),
        (CREATE, 201, {"status": "requires_action"}, Result.PENDING),
        (CREATE, 200, {"status": "processing"}, Result.PENDING),
        (CREATE, 200, {"status": "requires_confirmation"}, Result.PENDING),
        (CREATE, 200, {"status": "requires_payment_method"}, Result.PENDING),
        (
            CREATE,
            200,
            {"status": "requires_payment_method", "last_payment_error": None},
            Result.PENDING,
        ),
        (
            CREATE,
            200,
            {"status": "requires_payment_method", "last_payment_error": {"code": "x"}},
            Result.DECLINED,
        ),
        (CREATE, 402, {"error": {"type": "card_error", "code": "x"}}, Result.DECLINED),
        (CREATE, 402, {"error": {"type": "invalid_request_error"}}, Result.ERROR),
        (CREATE, 400, {"error": {"type": "invalid_request_error"}}, Result.ERROR),
        (CREATE, 400, b"<html>", Result.ERROR),
        (CREATE, 409, {"error": {"code": "lock_timeout"}}, Result.ERROR),
        (CAPTURE, 200, {"status": "succeeded"}, Result.APPROVED),
        (CAPTURE, 200, {"status": "processing"}, Result.PENDING),
        (CANCEL, 200, {"status": "canceled"}, Result.APPROVED),
        (SETUP, 200, {"status": "succeeded"}, Result.APPROVED),
        (SETUP, 200, {"status": "requires_payment_method"}, Result.PENDING),
        (
            SETUP,
            200,
            {"status": "requires_payment_method", "last_setup_error": {}},
            Result.DECLINED,
        ),
        (CHARGES, 200, {"status": "succeeded", "paid": True}, Result.APPROVED),
        (CHARGES, 200, {"status": "pending"}, Result.PENDING),
        (CHARGES, 200, {"status": "failed"}, Result.DECLINED),
        (REFUNDS, 200, {"status": "succeeded"}, Result.APPROVED),
        (REFUNDS, 200, {"status": "pending"}, Result.PENDING),
        (REFUNDS, 200, {"status": "failed"}, Result.DECLINED),
    ],
)
def test_what_stripe_s_replies_mean(
    path: str, status: int, document: object, result: Result
) -> None:
    read = _read(path, status, document)
    assert isinstance(read, Settled)
    assert read.result is result
    assert read.executed


@pytest.mark.guards("F-25")
@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_reply_to_what_was_not_executed_says_so(status: int) -> None:
    read = _read(CREATE, status, {"error": {"type": "invalid_request_error"}})
    assert isinstance(read, Settled)
    assert (read.result, read.executed) == (Result.ERROR, False)


@pytest.mark.guards("F-25", "F-29")
@pytest.mark.parametrize(
    ("path", "status", "document", "reason"),
    [
        (CREATE, 500, {"error": {"type": "api_error"}}, "upstream_error"),
        (CREATE, 503, b"", "upstream_error"),
        (CREATE, 200, b"", "upstream_protocol_error"),
        (CREATE, 200, b'{"status":"succeeded"', "upstream_protocol_error"),
        (CREATE, 200, b"[" * 100_000, "upstream_protocol_error"),
        (CREATE, 200, {"status": "something_new"}, "upstream_protocol_error"),
        (CREATE, 200, {"status": True}, "upstream_protocol_error"),
        (CREATE, 200, ["succeeded"], "upstream_protocol_error"),
        (METHODS, 200, {"status": "succeeded"}, "upstream_protocol_error"),
        (CANCEL, 200, {"status": "succeeded"}, "upstream_protocol_error"),
        (CREATE, 304, {"status": "succeeded"}, "upstream_protocol_error"),
        (CREATE, 409, {"error": {"code": "idempotency_key_in_use"}}, "upstream_in_flight"),
    ],
)
def test_a_reply_that_leaves_it_open_is_unknown(
    path: str, status: int, document: object, reason: str
) -> None:
    read = _read(path, status, document)
    assert isinstance(read, UnknownOutcome)
    assert read.reason == reason


def test_a_byte_order_mark_before_the_reply_is_no_part_of_it() -> None:
    read = _read(CREATE, 200, b'\xef\xbb\xbf{"status":"succeeded"}')
    assert isinstance(read, Settled)


@pytest.mark.parametrize(
    ("status", "document", "references"),
    [
        (
            200,
            {
                "id": "pi_1",
                "status": "succeeded",
                "latest_charge": {"payment_method_details": {"card": {"authorization_code": "A7"}}},
                "failure_code": "old",
            },
            References("pi_1", None, "A7"),
        ),
        (
            402,
            {
                "error": {
                    "type": "card_error",
                    "code": "card_declined",
                    "decline_code": "insufficient_funds",
                    "payment_intent": {"id": "pi_2"},
                }
            },
            References("pi_2", "insufficient_funds"),
        ),
        (
            402,
            {"error": {"type": "card_error", "code": "expired_card"}},
            References(None, "expired_card"),
        ),
        (400, {"error": {"code": "resource_missing"}}, References()),
        (500, {"id": "pi_3"}, References("pi_3")),
        (200, {"id": 7, "status": "succeeded"}, References()),
        (200, {"id": "", "status": "succeeded"}, References()),
        (200, {"id": "a b", "status": "succeeded"}, References()),
        (200, {"id": "x" * 256, "status": "succeeded"}, References()),
        (200, b"text", References()),
    ],
)
def test_what_a_reply_is_remembered_by(
    status: int, document: object, references: References
) -> None:
    assert _read(CREATE, status, document).references == references


@pytest.mark.guards("F-28")
def test_a_withheld_reply_is_read_and_nothing_of_it_is_remembered() -> None:
    body = json.dumps({"id": NUMBER[::-1], "status": "succeeded"}).encode()
    reflected = scrub((), body, (CARD,))
    assert isinstance(reflected, Reflected)
    read = read_result(STRIPE, _operation(CREATE), 200, reflected)
    assert read == Settled(Result.APPROVED, References(), executed=True)


def test_true_is_not_one() -> None:
    rule = preset.ResultRule(
        statuses=("2xx",),
        where=(preset.Condition(path="paid", equals=(1,)),),
        result="approved",
    )
    changed = msgspec.structs.replace(STRIPE, results=(rule,))
    for paid, expected in ((1, Settled), (True, UnknownOutcome), ("1", UnknownOutcome)):
        body = json.dumps({"paid": paid}).encode()
        read = read_result(changed, _operation(CREATE), 200, Scrubbed((), body, 0, 0))
        assert type(read) is expected
