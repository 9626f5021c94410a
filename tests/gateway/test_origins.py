"""An origin has one spelling, and whatever else a page sends is somebody else's."""

from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.origins import NOWHERE, OriginRefused, is_listed, own_origin, parse_origin
from vault.tokens import Env

SHOP = "https://shop.example"
LISTED = frozenset({SHOP, "https://pay.shop.example:8443", "app:example.shop"})
LONGEST = ".".join(["a" * 63] * 3 + ["b" * 61])  # 253 characters


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (SHOP, SHOP),
        ("https://shop.example:443", SHOP),
        ("HTTPS://Shop.EXAMPLE", SHOP),
        ("https://shop.example:8443", "https://shop.example:8443"),
        ("https://shop.example:80", "https://shop.example:80"),
        ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
        ("https://a-b.c1.example:65535", "https://a-b.c1.example:65535"),
        (f"https://{LONGEST}:65535", f"https://{LONGEST}:65535"),
        ("app:example.shop", "app:example.shop"),
        ("app:com.example.my-shop", "app:com.example.my-shop"),
    ],
)
@pytest.mark.parametrize("env", ["test", "live"])
def test_what_may_be_listed_gets_its_one_spelling(text: str, canonical: str, env: Env) -> None:
    assert parse_origin(text, env=env) == canonical
    assert parse_origin(canonical, env=env) == canonical


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("http://localhost", "http://localhost"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:443", "http://localhost:443"),
        ("http://LOCALHOST:3000", "http://localhost:3000"),
        ("https://localhost:8443", "https://localhost:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://[0:0:0:0:0:0:0:1]", "https://[::1]"),
    ],
)
def test_loopback_is_for_tests(text: str, canonical: str) -> None:
    assert parse_origin(text, env="test") == canonical
    with pytest.raises(OriginRefused):
        parse_origin(text, env="live")


@pytest.mark.guards("T-14")
@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "*", "https://", "https://*", "https://*.shop.example", "shop.example"),
        *(
            "http://shop.example",
            "ftp://shop.example",
            "file://",
            "data:text/html,x",
            "//shop.example",
        ),
        *("https:shop.example", "https:/shop.example", "https:///shop.example", "javascript://a.b"),
        *(
            "https://shop.example/",
            "https://shop.example/pay",
            "https://shop.example?a",
            SHOP + "#a",
        ),
        *("https://shop.example.", "https://.shop.example", "https://shop..example"),
        *(
            "https://shop",
            "https://-shop.example",
            "https://shop-.example",
            "https://sh_op.example",
        ),
        *(
            "https://user@shop.example",
            "https://shop.example@evil.example",
            "https://a:b@shop.example",
        ),
        *(
            " https://shop.example",
            "https://shop.example ",
            "https://shop.example\n",
            "https://shop\t.example",
        ),
        *("https://shop.example\0", "https://shop.example https://evil.example", SHOP + "," + SHOP),
        *("https://shop.example:", "https://shop.example:0", "https://shop.example:00443"),
        *("https://shop.example:65536", "https://shop.example:-1", "https://shop.example:4x3"),
        *("https://shop.example:443:443", "https://shop.example:999999"),
        *(
            "https://münchen.example",
            "https://shop\u3002example",
            "https://\uff53hop.example",
            "https://sh\u200bop.example",
        ),
        *(
            "https://192.0.2.1",
            "https://8.8.8.8",
            "https://[2001:db8::1]",
            "https://[::ffff:127.0.0.1]",
        ),
        *(
            "https://2130706433",
            "http://127.1",
            "https://0x7f.0.0.1",
            "https://127.0.0.01",
            "http://127.0.0.2",
        ),
        *(
            "http://0.0.0.0",
            "http://[::]",
            "http://[::1%25lo]",
            "http://10.0.0.1",
            "http://localhost.example",
        ),
        *("https://1.2.3", "https://shop.123", "https://ab--c.example", "https://%73hop.example"),
        *(f"https://a{LONGEST}", "https://" + "a" * 64 + ".example", "https://shop.example\\evil"),
        *("app:", "app:shop", "app:Example.Shop", "app:example..shop", "app:example.shop."),
        *(
            "app:.example",
            "app://example.shop",
            "app:example.shop/x",
            "APP:example.shop",
            "app:exämple.shop",
        ),
        *("app:example.shop\n", "app:" + "a." * 140 + "b"),
    ],
)
@pytest.mark.parametrize("env", ["test", "live"])
def test_what_is_no_origin_is_refused_with_advice_of_ours(text: str, env: Env) -> None:
    with pytest.raises(OriginRefused) as refused:
        parse_origin(text, env=env)
    advice = str(refused.value)
    assert len(advice) > 20
    assert refused.value.__context__ is None
    for word in ("evil", "user", "pay", "sh_op"):
        assert word not in advice


def test_advice_says_what_to_change() -> None:
    told = {
        "https://münchen.example": "xn--",
        "https://shop.example/": "no slash",
        "http://shop.example": "https://",
        "https://shop": "full DNS name",
        "app:Shop": "reverse",
    }
    for text, advice in told.items():
        with pytest.raises(OriginRefused, match=advice):
            parse_origin(text, env="live")


@pytest.mark.guards("T-14")
@pytest.mark.parametrize(
    "header",
    [
        *("", "null", "NULL", "*", "undefined"),
        "https://shop.example.evil.example",  # suffix
        "https://evil-shop.example",  # prefix
        "https://evil.shop.example",
        "https://shop.exampl",
        "https://hop.example",
        "https://shop.example.",  # the root's dot
        "https://shop.example:443",
        "https://shop.example:8443",
        "https://pay.shop.example",  # the port is part of it
        "https://pay.shop.example:84430",
        "https://pay.shop.example:08443",
        *("http://shop.example", "HTTPS://shop.example", "wss://shop.example", "shop.example"),
        *("https://SHOP.example", "https://Shop.Example"),
        *(
            "https://shop.example/",
            "https://shop.example/pay",
            "https://shop.example?",
            "https://shop.example#",
        ),
        *(
            " https://shop.example",
            "https://shop.example ",
            "https://shop.example\t",
            "\thttps://shop.example",
        ),
        *("https://shop.example\n", "https://shop.example\r\n", "https://shop.example\0"),
        "https://shop.example@evil.example",
        "https://evil.example@shop.example",
        "https://shop.example, https://evil.example",
        "https://evil.example https://shop.example",
        "https://shop.example https://shop.example",
        "https://shop\u3002example",
        "https://\uff53hop.example",
        "https://shop.example\u200b",
        "https://sh\u043ep.example",  # a Cyrillic o
        "https://shop%2eexample",
        "https://shop_example",
        "https://shopXexample",
        *("https:shop.example", "https://\\shop.example", "https://*.example"),
        *("app:example.shop ", "app:example", "APP:example.shop", "app:example.shop.evil"),
    ],
)
def test_whoever_is_not_listed_letter_for_letter_is_refused(header: str) -> None:
    assert not is_listed(header, LISTED)
    assert not is_listed(header, sorted(LISTED))
    assert not is_listed(header, " ".join(LISTED))  # a text is no list: nothing is found in it


class CountedText(str):
    """Counts how often it is compared."""

    __slots__ = ()
    compared: ClassVar[int] = 0

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        CountedText.compared += 1
        return str.__eq__(self, other)


def test_an_origin_that_anybody_sends_is_not_compared_with_every_shops() -> None:
    listed = frozenset(CountedText(f"https://shop-{number}.example") for number in range(1000))
    CountedText.compared = 0
    assert not is_listed("https://evil.example", listed)
    assert CountedText.compared < 10


def test_who_is_listed_is_let_in() -> None:
    assert all(is_listed(origin, LISTED) for origin in LISTED)
    assert not is_listed(SHOP, ())


@pytest.mark.guards("T-14")
@given(st.text(max_size=60) | st.from_regex(r"https?://[ -~]{0,60}", fullmatch=True))
def test_whatever_is_written_is_canonical_or_refused(text: str) -> None:
    try:
        origin = parse_origin(text, env="test")
    except OriginRefused:
        return
    assert parse_origin(origin, env="test") == origin
    assert origin.isascii()
    assert not set(origin) & set(" \t\r\n\0*@?#\\%,")
    assert origin == origin.lower()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("pay.example", "https://pay.example"),
        ("Pay.Example:443", "https://pay.example"),
        ("pay.example:8443", "https://pay.example:8443"),
        ("localhost:8443", "https://localhost:8443"),
        ("127.0.0.1:8443", "https://127.0.0.1:8443"),
        ("[::1]:443", "https://[::1]"),
        ("gateway_1:8443", "https://gateway_1:8443"),
        ("null", "https://null"),  # a name like another: not what sandboxed frames send
        *((bad, NOWHERE) for bad in ("", ":443", "a b", "a/b", "user@a", "a:b", "a:70000")),
    ],
)
def test_our_own_origin_is_that_of_the_host_header(host: str, origin: str) -> None:
    assert own_origin(host) == origin


@given(st.text(max_size=40))
def test_no_host_header_makes_the_origin_of_nothing_ours(host: str) -> None:
    assert own_origin(host) not in {"", "null", "https://"}
