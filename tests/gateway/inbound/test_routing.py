"""Which route a request is for, and paths that another server would read differently."""

from dataclasses import dataclass
from posixpath import normpath
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import (
    GatewayError,
    Malformed,
    MethodNotAllowed,
    NotFound,
    UnsupportedMedia,
)
from gateway.inbound.routing import Routing
from gateway.inbound.rules import InboundConfig


@dataclass(frozen=True)
class Routed:
    route: InboundConfig


def route(
    name: str,
    path_prefix: str = "/",
    *,
    hosts: tuple[str, ...] = ("shop.test",),
    methods: tuple[str, ...] = (),
    content_types: tuple[str, ...] = (),
) -> Routed:
    return Routed(
        InboundConfig(
            name,
            "t_1234",
            hosts,
            "https://origin.test",
            path_prefix=path_prefix,
            methods=methods,
            content_types=content_types,
        )
    )


ROUTES = Routing(
    [
        route("all"),
        route("pay", "/pay"),
        route("pay_by_post", "/pay", methods=("POST",)),
        route("pay_by_form", "/pay", methods=("POST",), content_types=("text/form",)),
        route("deep", "/pay/deep"),
        route("posts", "/posts", methods=("POST",)),
        route("alone", hosts=("alone.test",)),
    ]
)


def found(path: str, method: str = "GET", content_type: str = "", host: str = "shop.test") -> str:
    return ROUTES.find(host, path, method, content_type).route.name


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (("/",), "all"),
        (("/other",), "all"),
        (("/pay",), "pay"),
        (("/payments",), "pay"),
        (("/pay/deep/1",), "deep"),
        (("/pay", "POST"), "pay_by_post"),
        (("/pay", "POST", "Text/Form; charset=utf-8"), "pay_by_form"),
        (("/PAY/Deep",), "deep"),
        (("/%70a%79",), "pay"),
        (("/x", "GET", "", "SHOP.TEST:8443"), "all"),
        (("/a//b/../c%2f", "GET", "", "alone.test"), "alone"),
    ],
)
def test_the_longest_prefix_and_the_closest_fit_win(asked: tuple[str, ...], name: str) -> None:
    assert found(*asked) == name


def test_what_no_route_takes_is_told_apart() -> None:
    with pytest.raises(NotFound):
        found("/", host="elsewhere.test")
    only = Routing([route("posts", "/posts", methods=("POST",))])
    with pytest.raises(NotFound):
        only.find("shop.test", "/gets", "GET", "")
    with pytest.raises(MethodNotAllowed) as refused:
        only.find("shop.test", "/posts", "GET", "")
    assert refused.value.allowed == ("POST",)


@pytest.mark.guards("T-05")
@pytest.mark.parametrize(
    "path",
    [
        *("/x/../pay", "/./pay", "/x/..", "/x/..;/pay", "//pay", "/x//pay", "/x\\..\\pay"),
        *("/x%2fpay", "/x/%2e%2e/pay", "/%2E%2E/pay", "/x%5cpay", "/pay%00", "/%252e%252e/pay"),
    ],
)
def test_a_path_that_may_be_another_is_refused(path: str) -> None:
    with pytest.raises(Malformed):
        found(path)


@pytest.mark.guards("T-05")
@pytest.mark.parametrize(
    "path", ["/;a/pay", "/pay;a/deep", "/pay/;x=1/deep", "/pa;y=1y/..;/pay", "/pay%3Ba/deep"]
)
def test_what_servers_of_java_read_without_parameters_is_another_path(path: str) -> None:
    with pytest.raises(Malformed):
        found(path)


@pytest.mark.parametrize(
    ("path", "name"), [("/pay;jsessionid=1", "pay"), ("/x;a=1/y", "all"), ("/pay/deep;a/b", "deep")]
)
def test_parameters_that_lead_nowhere_else_are_let_be(path: str, name: str) -> None:
    assert found(path) == name


@pytest.mark.guards("T-10")
@pytest.mark.parametrize(
    "content_type",
    [
        *("text/plain, text/form", "text/form, text/plain", "text/form text/plain"),  # PHP cuts
        *("text/form,", "text/form;a=1;a=2", "text", "text/form; charset=utf-8, text/plain"),
    ],
)
def test_a_doubtful_content_type_falls_back_to_no_other_route(content_type: str) -> None:
    with pytest.raises(UnsupportedMedia):
        found("/pay", "POST", content_type)
    assert found("/other", "POST", content_type) == "all", "where no type decides, none matters"


def test_a_body_of_no_type_is_a_form_to_some_servers() -> None:
    with pytest.raises(UnsupportedMedia):
        ROUTES.find("shop.test", "/pay", "POST", "", has_body=True)
    assert ROUTES.find("shop.test", "/pay", "POST", "").route.name == "pay_by_post"


def as_servers_do(path: str) -> str:
    """Read a path as a lenient server might: all escapes undone, dots and slashes collapsed."""
    return normpath(unquote(unquote(path)).replace("\\", "/").replace("//", "/")).lower()


PIECES = st.sampled_from(["pay", "x", ".", "..", "", "%2e", "%2e%2e", "%70ay", "PAY", "deep", ";a"])


@pytest.mark.guards("T-05")
@given(st.lists(PIECES, max_size=5))
def test_no_spelling_reaches_the_filtered_path_by_another_route(pieces: list[str]) -> None:
    path = "/" + "/".join(pieces)
    try:
        name = found(path, "POST")
    except GatewayError:
        return
    meant = as_servers_do(path)
    assert name != "all" or not meant.startswith("/pay"), path


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=20))
def test_any_path_has_an_answer_of_ours(text: str) -> None:
    try:
        found("/" + quote(text, safe="/%;\\"))
    except (Malformed, NotFound):
        return
