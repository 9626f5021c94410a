import pytest

from gateway import strays
from gateway.codecs import form, json
from vault.tokens import token_of

TOKEN = token_of("test", 7)
LIVE = token_of("live", 8)


def _in_form(body: bytes) -> list[str]:
    return list(strays.in_fields(body, form.read(body).fields))


@pytest.mark.guards("T-28")
@pytest.mark.parametrize("token", [TOKEN, LIVE, TOKEN[:-2] + "00"])
@pytest.mark.parametrize("around", ["{}", "x{}", "{}y", "card {} of mine", "{0}{0}"])
def test_a_token_in_a_value_names_its_field(token: str, around: str) -> None:
    value = around.format(token).replace(" ", "+")
    assert _in_form(f"a=1&billing[city]={value}".encode()) == ["billing[city]"]


@pytest.mark.guards("T-28")
def test_a_token_is_seen_through_its_escapes() -> None:
    assert _in_form(f"a={TOKEN.replace('_', '%5F')}".encode()) == ["a"]
    body = f'{{"a":{{"b":["\\u0070{TOKEN[1:]}"]}}}}'.encode()
    assert list(strays.in_fields(body, json.read(body).fields)) == ["a.b[0]"]


@pytest.mark.guards("T-28")
def test_a_token_in_a_value_that_does_not_decode_is_seen() -> None:
    assert _in_form(f"a=%zz{TOKEN}&b=%zz".encode()) == ["a"]


@pytest.mark.guards("T-28", "T-32")
@pytest.mark.parametrize(
    "name",
    [TOKEN, f"metadata[{TOKEN}]", "1a", "a b", "a" * 101, "n4242424242", "4242-4242-4242", "é"],
)
def test_a_name_that_could_be_more_than_a_name_is_not_told(name: str) -> None:
    body = f"{name}={TOKEN}".encode()
    assert _in_form(body) == ["body"]


def test_keys_without_a_value_of_their_own_are_seen() -> None:
    body = f'{{"{TOKEN}":{{}}}}'.encode()
    assert list(strays.in_fields(body, json.read(body).fields)) == ["body"]


@pytest.mark.parametrize(
    "text", [TOKEN[:-1], TOKEN.upper(), TOKEN.replace("test", "prod"), "pwt_test_", "9" * 16]
)
def test_other_text_is_nobody_s_business(text: str) -> None:
    assert _in_form(f"a={text}&{text}=b".encode()) == []
    assert list(strays.in_bytes(text.encode())) == []
    assert list(strays.in_head(f"/v1/{text}", f"a={text}&%={text}", [("x-a", text)])) == []


@pytest.mark.guards("T-41", "T-42")
def test_a_token_before_the_body_names_its_place() -> None:
    found = strays.in_head(
        f"/v1/charges/{TOKEN}",
        f"expand[]={TOKEN}&{TOKEN}=1",
        [("Accept", "*/*"), ("Idempotency-Key", TOKEN), (f"X-{TOKEN}", "")],
    )
    assert list(found) == ["path", "idempotency-key", "header", "expand[]", "query"]


def test_a_query_that_is_no_form_is_searched_as_a_whole() -> None:
    assert list(strays.in_head("/v1", f"%={TOKEN}", [])) == ["query"]
    assert list(strays.in_bytes(f"<a>{TOKEN}</a>".encode())) == ["body"]
