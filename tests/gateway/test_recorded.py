import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import Call
from gateway.recorded import recorded_calls
from tests import cards
from vault.errors import StartRefused

BODY = "type=card&card[number]=x"
HEAD = (
    "POST /v1/payment_methods?expand=a HTTP/1.1",
    "Host: api.stripe.com",
    "Content-Type: application/x-www-form-urlencoded",
)

NO_BASE64 = (
    b'{"log":{"entries":[{"request":{"method":"POST","url":"/",'
    b'"postData":{"text":"!","encoding":"base64"}}}]}}'
)


def _one(data: bytes | str) -> Call:
    (call,) = recorded_calls(data.encode() if isinstance(data, str) else data)
    return call


def _raw(*headers: str, body: str = BODY, end: str = "\r\n") -> str:
    return end.join((*HEAD, *headers, "", body))


# --- raw requests -------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("after", ["", "\n", "\r\n"])
@pytest.mark.parametrize("before", ["", "\ufeff", "\n\n"])
def test_a_raw_request_is_read_as_an_editor_left_it(end: str, after: str, before: str) -> None:
    call = _one(before + _raw(end=end) + after)
    assert (call.method, call.path, call.query) == ("POST", "/v1/payment_methods", "expand=a")
    assert call.body == BODY.encode()
    assert call.media_type == "application/x-www-form-urlencoded"


@pytest.mark.parametrize("length", [len(BODY), 3, 99_999, 0])
def test_a_length_that_is_no_longer_true_cuts_nothing_off(length: int) -> None:
    call = _one(_raw(f"Content-Length: {length}") + "\n")
    assert call.body == BODY.encode()


def test_a_length_says_whether_the_last_line_end_is_the_body_s() -> None:
    call = _one(_raw(f"Content-Length: {len(BODY) + 2}", body=BODY + "\r\n\r\n"))
    assert call.body == BODY.encode() + b"\r\n"


def test_an_empty_line_within_the_body_is_the_body_s() -> None:
    body = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--"
    head = "POST /v1/files HTTP/1.1\nContent-Type: multipart/form-data; boundary=x"
    assert _one(f"{head}\n\n{body}\r\n").body == body.encode()
    of_an_editor = _one(f"{head}\n\n{body}\r\n".replace("\r\n", "\n"))
    assert of_an_editor.body == body.encode()


def test_a_call_without_a_body_has_none() -> None:
    assert _one("GET /v1/charges HTTP/1.1\nHost: api.stripe.com\n").body == b""


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/v1/charges?a=b?c", "/v1/charges", "a=b?c"),
        ("https://api.stripe.com/v1/charges", "/v1/charges", ""),
        ("https://api.stripe.com", "/", ""),
        ("/out/stripe/v1/charges?a", "/v1/charges", "a"),
        ("https://gateway:8444/out/a-route_2/v1/charges", "/v1/charges", ""),
        ("/out/stripe", "/", ""),
        ("//v1/charges", "//v1/charges", ""),
        ("https://[/v1", "/v1", ""),
        ("/v1/charges#end", "/v1/charges", ""),
    ],
)
def test_the_path_is_the_processor_s(target: str, path: str, query: str) -> None:
    call = _one(f"POST {target} HTTP/1.1\nA: b\n\n")
    assert (call.path, call.query) == (path, query)


def test_the_host_stands_where_it_was_called_and_not_the_gateway_s() -> None:
    assert _one("GET https://a.example/b HTTP/1.1\n\n").headers == [("Host", "a.example")]
    assert _one("GET /out/b/c HTTP/1.1\nHost: gateway\n\n").headers == []


@pytest.mark.parametrize(
    "data",
    [
        "",
        " ",
        BODY,
        "POST /v1/charges",
        "POST /v1/charges HTTP/1.1\nno header",
        f"{cards.VISA} / HTTP/1.1\n\n",
        "POST  HTTP/1.1\n\n",
        '{"card": {}}',
        '{"log": {"entries": []}}',
        '{"log": ' * 10_000,
        "curl 'https://a",
        "curl -X POST",
        "> no request",
    ],
)
def test_what_is_no_record_is_told_what_one_is(data: str) -> None:
    with pytest.raises(StartRefused, match="raw request") as refused:
        recorded_calls(data.encode())
    assert cards.VISA not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_raw("Transfer-Encoding: chunked").encode(), "in chunks"),
        (_raw("Content-Encoding: gzip").encode(), "compressed"),
        (_raw().encode("utf-16"), "UTF-16"),
        (b"> POST / HTTP/1.1\n> Content-Length: 9\n>\n* done", "does not show the body"),
        (b"curl https://a/b -d @body.json", "from a file"),
        (b"curl https://a/b --data-binary @body.json", "from a file"),
        (b"curl https://a/b --data-urlencode name@file", "from a file"),
        (b"curl https://a/b -F file=x", "an option"),
        (NO_BASE64, "base64"),
    ],
)
def test_what_a_record_lacks_is_said(data: bytes, words: str) -> None:
    with pytest.raises(StartRefused, match=words):
        recorded_calls(data)


# --- curl ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "method", "body", "type_"),
    [
        ("-d a=1 -d 'card[number]=x'", "POST", "a=1&card[number]=x", "form"),
        ("--data-raw=a=1 --compressed", "POST", "a=1", "form"),
        ("-da=1", "POST", "a=1", "form"),
        ("-X PUT --data-urlencode 'a=b c&'", "PUT", "a=b%20c%26", "form"),
        ("-XDELETE", "DELETE", "", ""),
        ("--json '{\"a\":1}'", "POST", '{"a":1}', "application/json"),
        ("-H 'content-type: text/xml' --data-binary '<a/>'", "POST", "<a/>", "text/xml"),
        ("--url https://b/v1/x -sS -u sk: -o out", "GET", "", ""),
    ],
)
def test_a_curl_command_is_what_it_would_send(
    words: str, method: str, body: str, type_: str
) -> None:
    text = f"$ curl https://a/v1/x \\\n  {words}"
    call = _one(text)
    assert (call.method, call.path, call.body.decode()) == (method, "/v1/x", body)
    assert call.media_type == type_.replace("form", "application/x-www-form-urlencoded")


def test_data_may_go_into_the_query() -> None:
    call = _one("curl -G api.stripe.com/v1/charges -d limit=3")
    assert (call.method, call.path, call.query, call.body) == ("GET", "/v1/charges", "limit=3", b"")


def test_curl_s_own_log_is_read_as_far_as_it_goes() -> None:
    log = (
        "* Connected to api.stripe.com\n> GET /v1/charges HTTP/1.1\n> Host: api.stripe.com\n>\n"
        "< HTTP/1.1 200 OK\n"
    )
    assert (_one(log).method, _one(log).path) == ("GET", "/v1/charges")


# --- HAR ----------------------------------------------------------------------------------


def _har(*requests: object) -> bytes:
    entries = [{"request": each} for each in requests]
    return json.dumps({"log": {"version": "1.2", "entries": entries}}).encode()


def _request(post: object = None, **more: object) -> dict[str, object]:
    return {
        "method": "POST",
        "url": "https://api.stripe.com/v1/tokens",
        "headers": [{"name": ":authority", "value": "api.stripe.com"}],
        "postData": post,
        **more,
    }


@pytest.mark.parametrize(
    ("post", "body"),
    [
        ({"mimeType": "application/x-www-form-urlencoded", "text": BODY}, BODY),
        ({"mimeType": "a/b", "text": b64encode(b"x=1").decode(), "encoding": "base64"}, "x=1"),
        (
            {
                "mimeType": "application/x-www-form-urlencoded",
                "params": [{"name": "a b", "value": "[1]"}, {"name": "c"}],
            },
            "a+b=%5B1%5D&c=",
        ),
        (None, ""),
    ],
)
def test_each_entry_of_a_har_file_is_a_call(post: dict[str, str] | None, body: str) -> None:
    first, second = recorded_calls(b"\xef\xbb\xbf" + _har(_request(post), _request(post)))
    assert first == second
    assert (first.method, first.path, first.body.decode()) == ("POST", "/v1/tokens", body)
    assert first.media_type == (post or {}).get("mimeType", "")
    assert ("Host", "api.stripe.com") in first.headers
    assert ":authority" not in dict(first.headers)


@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda text: f"curl {text}".encode()))
def test_any_bytes_are_calls_or_a_refusal_without_a_byte_of_them(data: bytes) -> None:
    try:
        calls, words = recorded_calls(data), ""
    except StartRefused as refusal:
        calls, words = [], str(refusal)
    assert bool(calls) is not bool(words)
    assert words.isascii()
