import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import preset
from gateway.order import OpenedCard
from gateway.reply import Reflected, Scrubbed, scrub
from tests import cards
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


# --- scrubbing ----------------------------------------------------------------------------


def test_a_reply_without_an_echo_is_not_touched() -> None:
    headers = (("Request-Id", "req_1"), ("X", "y"))
    body = b'\xef\xbb\xbf{ "id":"pi_1", "rank": "737", "amount":737 }\n'
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


@pytest.mark.guards("T-40")
@pytest.mark.parametrize(
    ("body", "cleaned"),
    [
        (b'{"cvv": "737", "id": "x"}', b'{"cvv": "000", "id": "x"}'),
        (b'{"a": [{"securityCode": 737}]}', b'{"a": [{"securityCode": 0}]}'),
        (b"<a><card-code>737</card-code></a>", b"<a><card-code>000</card-code></a>"),
        (b'{"amount": 737, "ref": "737"}', b'{"amount": 737, "ref": "737"}'),
        (b"cvv=737, in no format", b"cvv=737, in no format"),
    ],
)
def test_a_code_in_a_field_of_that_name_becomes_zeros(body: bytes, cleaned: bytes) -> None:
    scrubbed = scrub((), body, (CARD,))
    assert isinstance(scrubbed, Scrubbed)
    assert scrubbed.body == cleaned
    assert scrubbed.echoes == (body != cleaned)


@pytest.mark.guards("T-40")
def test_an_amount_of_the_code_s_digits_beside_an_echo_keeps_them() -> None:
    body = json.dumps({"number": NUMBER, "amount": "737.00", "id": "pay-737-x"}).encode()
    scrubbed = scrub((), body, (CARD,))
    assert isinstance(scrubbed, Scrubbed)
    assert json.loads(scrubbed.body) == {"number": TOKEN, "amount": "737.00", "id": "pay-737-x"}


def test_nothing_of_a_reply_is_printed() -> None:
    scrubbed = scrub((("X", "secret"),), b"secret", ())
    reflected = scrub((), NUMBER[::-1].encode(), (CARD,))
    assert "secret" not in repr(scrubbed)
    assert repr(reflected) == "Reflected()"
