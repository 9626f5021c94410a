"""JSON that two readers may take differently: refused, or without a number for either of them."""

import pytest

from gateway.errors import BodyUnreadable, CardFieldRefused
from gateway.inbound.rules import Filter, Undeclared
from tests.cards import VISA
from tests.gateway.inbound.filter_requests import JSON, body_of, route

pytestmark = pytest.mark.guards("T-11")

POLICIES: tuple[Undeclared, ...] = ("report", "mask", "tokenize", "refuse")
REPLACED = {
    "a key twice": f'{{"number":"{VISA}","number":"{VISA}"}}'.encode(),
    "the last one empty": f'{{"number":"{VISA}","number":""}}'.encode(),
    "the first one empty": f'{{"number":"","number":"{VISA}"}}'.encode(),
    "a key spelled twice": f'{{"number":"","n\\u0075mber":"{VISA}"}}'.encode(),
    "a byte order mark": b"\xef\xbb\xbf" + f'{{"number":"{VISA}"}}'.encode(),
    "half a surrogate pair": f'{{"number":"{VISA}","a":"\\ud800"}}'.encode(),
}
REFUSED = {
    "UTF-16": f'{{"number":"{VISA}"}}'.encode("utf-16"),
    "UTF-16 without a mark": f'{{"number":"{VISA}"}}'.encode("utf-16-le"),
    "NUL in the value": f'{{"number":"{VISA}\\u0000"}}'.encode(),
    "deeper than anybody needs": b"[" * 500 + b"]" * 500,
    "a list in the number's place": f'{{"number":[[["{VISA}"]]]}}'.encode(),
    "a second document": f'{{"number":""}}{{"number":"{VISA}"}}'.encode(),
    "no number": f'{{"number":NaN,"a":"{VISA}"}}'.encode(),
    "4,000 digits": b'{"number":' + b"1" * 4000 + b"}",
    "an exponent": f'{{"number":{VISA}e0}}'.encode(),
    "a comment": f'{{"number":"" /* {VISA} */}}'.encode(),
    "other quotes": f"{{'number':'{VISA}'}}".encode(),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("trick", REPLACED)
def test_whichever_a_reader_takes_is_no_number(trick: str, policy: Undeclared) -> None:
    written = body_of(route(Filter("number"), undeclared=policy), JSON, REPLACED[trick])
    assert VISA.encode() not in written
    assert written.count(b"pwt_test_") == REPLACED[trick].count(VISA.encode())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("trick", REFUSED)
def test_what_readers_may_differ_about_is_not_passed_on(trick: str, policy: Undeclared) -> None:
    with pytest.raises((BodyUnreadable, CardFieldRefused)):
        body_of(route(Filter("number"), undeclared=policy), JSON, REFUSED[trick])
