"""What a route's settings must be, and what is said of those that are not."""

from pathlib import Path
from typing import Any

import pytest

from gateway.inbound.endpoints import endpoints_of
from gateway.inbound.rules import Filter, InboundConfig
from vault.errors import StartRefused

LOOPBACK = ("127.0.0.1/32",)


def route(name: str = "shop", **more: Any) -> InboundConfig:  # noqa: ANN401 - of a test's table
    settings: dict[str, Any] = {
        "tenant": "t_1234",
        "hosts": ("shop.test",),
        "upstream": "https://origin.shop.test",
    }
    return InboundConfig(name, **(settings | more))


def refusal(*routes: InboundConfig, folder: Path = Path()) -> str:
    with pytest.raises(StartRefused) as refused:
        endpoints_of(routes, folder)
    return str(refused.value)


@pytest.mark.parametrize(
    ("upstream", "allow", "found"),
    [
        ("https://origin.shop.test", (), ("https", "origin.shop.test", 443)),
        ("https://Origin.Shop.Test:8443/", (), ("https", "origin.shop.test", 8443)),
        ("http://127.0.0.1:8080", LOOPBACK, ("http", "127.0.0.1", 8080)),
        ("http://10.0.0.7", ("10.0.0.0/8",), ("http", "10.0.0.7", 80)),
    ],
)
def test_where_a_route_leads(
    upstream: str, allow: tuple[str, ...], found: tuple[object, ...]
) -> None:
    (endpoint,) = endpoints_of([route(upstream=upstream, address_allow=allow)], Path())
    assert (endpoint.scheme, *endpoint.host) == found


@pytest.mark.guards("T-43")
@pytest.mark.parametrize(
    ("upstream", "allow"),
    [
        ("http://origin.shop.test", ()),  # without TLS only what is listed
        ("http://127.0.0.1:8080", ()),
        ("http://127.0.0.2:8080", LOOPBACK),
        ("https://user@origin.shop.test", ()),
        ("https://origin.shop.test/path", ()),
        ("https://origin.shop.test?a", ()),
        ("ftp://origin.shop.test", ()),
        ("origin.shop.test", ()),
        ("https://", ()),
        ("https://127.1", LOOPBACK),
        ("https://0x7f000001", LOOPBACK),
    ],
)
def test_where_no_route_leads(upstream: str, allow: tuple[str, ...]) -> None:
    said = refusal(route(upstream=upstream, address_allow=allow))
    assert said.startswith("inbound.shop: upstream must be https://")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hosts": ("Shop.test",)}, "hosts are lower-case names"),
        ({"hosts": ("shop.test:443",)}, "hosts are lower-case names"),
        ({"reuse": True, "token_hours": 1}, "reuse is for tokens that are kept"),
        ({"fixed_width": {"pan": (5, 5)}}, "fixed_width.pan"),
        ({"certificate_file": "a.pem"}, "go together"),
        ({"certificate_file": "a.pem", "private_key_file": "b"}, "there is no file"),
        ({"ca_file": "missing.pem"}, "holds no certificate authority"),
        (
            {"upstream": "http://127.0.0.1", "address_allow": LOOPBACK, "ca_file": "x"},
            "ca_file is for an https:// upstream",
        ),
        ({"path_prefix": "/a//b"}, "path_prefix: servers read it in different ways"),
        ({"path_prefix": "/a/../b"}, "path_prefix: servers read it in different ways"),
        ({"filters": (Filter("$["),)}, "filter $["),
        ({"filters": (Filter("a", "tokenize", "response"),)}, "masked or removed"),
    ],
)
def test_settings_that_are_refused_are_named(
    settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    said = refusal(route(**settings), folder=tmp_path)
    assert said.startswith("inbound.shop: ")
    assert words in said


def test_routes_that_take_the_same_are_refused() -> None:
    assert "takes what one takes" in refusal(route("one"), route("two"))
    assert "another tenant's host" in refusal(
        route("one"), route("two", tenant="t_9999", path_prefix="/two")
    )
    endpoints_of([route("one"), route("two", path_prefix="/two")], Path())


def test_a_host_has_one_certificate(tmp_path: Path) -> None:
    for name in ("a", "b", "key"):
        (tmp_path / name).touch()
    one = route("one", certificate_file="a", private_key_file="key")
    two = route("two", path_prefix="/two", certificate_file="b", private_key_file="key")
    assert "has another certificate already" in refusal(one, two, folder=tmp_path)
