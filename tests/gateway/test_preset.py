import re
from importlib.resources import files

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import preset
from gateway.preset import Operation, Preset
from gateway.preset_patterns import segments
from vault.authorization import Kind
from vault.errors import StartRefused

STRIPE = preset.load("stripe")


def _match(method: str, path: str) -> Operation | None:
    """Give the one operation of a call that the body has no part in."""
    found = STRIPE.candidates(method, path)
    assert len(found) < 2
    return found[0] if found else None


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("/v1/payment_methods", "payment_methods.create", Kind.STORE_CARD),
        ("/v1/tokens", "tokens.create", Kind.STORE_CARD),
        ("/v1/payment_intents", "payment_intents.create", Kind.AUTHORIZE),
        ("/v1/payment_intents/pi_3M/confirm", "payment_intents.confirm", Kind.AUTHORIZE),
        ("/v1/payment_intents/pi_3M/capture", "payment_intents.capture", Kind.CAPTURE),
        ("/v1/payment_intents/pi_3M/cancel", "payment_intents.cancel", Kind.VOID),
        ("/v1/setup_intents", "setup_intents.create", Kind.VERIFY),
        ("/v1/setup_intents/seti_1/confirm", "setup_intents.confirm", Kind.VERIFY),
        ("/v1/charges", "charges.create", Kind.AUTHORIZE),
        ("/v1/charges/ch_1/capture", "charges.capture", Kind.CAPTURE),
        ("/v1/refunds", "refunds.create", Kind.REFUND),
    ],
)
def test_stripe_s_calls_that_move_money_or_hold_a_card(path: str, name: str, kind: Kind) -> None:
    operation = _match("POST", path)
    assert operation is not None
    assert (operation.name, operation.kind) == (name, kind)
    assert not STRIPE.passes_through("POST", path)
    assert _match("GET", path) is None
    assert STRIPE.passes_through("GET", path)


@pytest.mark.parametrize(
    "path", ["/v1/products", "/v1/customers/cus_1/balance", "/v1/disputes/dp_1/close", "/v2/core"]
)
def test_other_calls_pass_through(path: str) -> None:
    assert _match("POST", path) is None
    assert STRIPE.passes_through("POST", path)


@pytest.mark.guards("T-05")
@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "v1/refunds",
        "/v1/refunds/",
        "//v1/refunds",
        "/v1//refunds",
        "/v1/./refunds",
        "/v1/../v1/refunds",
        "/v1/payment_intents/../confirm",
        "/v1/payment_intents/./confirm",
        "/v1/refunds/..",
        "/v1/refunds/.",
        "/v1/%72efunds",
        "/v1%2frefunds",
        "/v1/refunds;x=1",
        "/v1/refunds?x=1",
        "/v1/refunds#x",
        "/v1\\refunds",
        "/v1/refunds\x00",
        "/v1/refunds\n",
        "/v1/re funds",
        "/v1/refund\u017f",
        "https://api.stripe.com/v1/refunds",
    ],
)
def test_a_path_that_two_could_read_differently_is_no_path(path: str) -> None:
    assert _match("POST", path) is None
    assert not STRIPE.passes_through("POST", path)


@pytest.mark.guards("T-05")
@pytest.mark.parametrize("path", ["/V1/refunds", "/v1/Payment_Intents/pi_1/CONFIRM"])
def test_a_path_that_a_lax_processor_takes_for_an_operation_does_not_pass(path: str) -> None:
    assert _match("POST", path) is None
    assert not STRIPE.passes_through("POST", path)


@pytest.mark.guards("T-05")
@given(st.text("/.%v1refunds;AZ\\", max_size=30) | st.text(max_size=20))
def test_what_is_taken_for_an_operation_is_never_passed_through(path: str) -> None:
    matched = _match("POST", path) is not None
    passes = STRIPE.passes_through("POST", path)
    assert not (matched and passes)
    if matched or passes:
        assert re.fullmatch("[A-Za-z0-9/_.-]+", path)
        assert not {"", ".", ".."} & set(path.split("/")[1:])


@pytest.mark.parametrize("name", preset.names())
def test_each_path_of_each_operation_leads_to_all_that_it_fits(name: str) -> None:
    """What is asked of the index is what asking every operation would say."""
    read = preset.load(name)
    for path in {path for each in read.operations for path in each.paths}:
        asked = re.sub(r"\{[a-z_]+\}", "7", path)
        for method in {each.method for each in read.operations}:
            fitting = tuple(
                each
                for each in read.operations
                if each.method == method
                and any(re.fullmatch(segments(one), asked) for one in each.paths)
            )
            assert read.candidates(method, asked) == fitting
            if fitting and asked.upper() != asked:
                assert not read.passes_through(method, asked.upper())


def test_a_segment_with_dots_in_it_is_a_segment() -> None:
    assert _match("POST", "/v1/payment_intents/a..b/confirm") is not None
    assert STRIPE.passes_through("GET", "/v1/...")


def test_text_fields_are_named_or_one_level_of_a_pattern() -> None:
    operation = _match("POST", "/v1/payment_intents")
    assert operation is not None
    for name in ("description", "metadata[a]", "metadata[]", "statement_descriptor_suffix"):
        assert STRIPE.is_text(operation, name, form=True)
    for name in ("metadata", "metadata[a][b]", "xdescription", "description2", "payment_method"):
        assert not STRIPE.is_text(operation, name, form=True)


def test_an_operation_s_own_selectors_stand_in_place_of_the_preset_s() -> None:
    capture = _match("POST", "/v1/payment_intents/pi_1/capture")
    create = _match("POST", "/v1/payment_intents")
    assert capture is not None
    assert create is not None
    assert STRIPE.selectors(capture, "amount") == ("amount_to_capture",)
    assert STRIPE.selectors(create, "amount") == ("amount",)
    assert STRIPE.selectors(capture, "currency") == ("currency",)


def test_the_fields_of_a_card_are_those_that_are_named() -> None:
    whole = preset.CardFields(number="n", exp_month="m", exp_year="y", cvc="c")
    assert whole.fields() == ("n", "m", "y", "c")
    assert preset.CardFields(number="n").fields() == ("n",)


@pytest.mark.guards("T-07")
@pytest.mark.parametrize("header", ["Request-Id", "Idempotent-Replayed", "stripe-should-retry"])
def test_listed_headers_of_a_reply_pass(header: str) -> None:
    assert STRIPE.returns(header)


@pytest.mark.guards("T-07")
@pytest.mark.parametrize("header", ["Location", "Server", "Set-Cookie", "X-Request-Id", "Request"])
def test_no_other_header_of_a_reply_passes(header: str) -> None:
    assert not STRIPE.returns(header)


@pytest.mark.parametrize("header", ["Cookie", "X-Forwarded-For", "X-HTTP-Method-Override"])
def test_listed_headers_of_a_request_do_not_go_on(header: str) -> None:
    assert not STRIPE.forwards(header)
    assert STRIPE.forwards("Stripe-Account")


@pytest.mark.parametrize(
    "name", ["nobody", "", "../../vault/brands", "stripe.toml", "STRIPE", "__init__"]
)
def test_a_preset_that_does_not_exist_refuses_the_start(name: str) -> None:
    with pytest.raises(StartRefused, match="no preset"):
        preset.load(name)


def test_every_file_of_the_package_is_a_preset_of_its_name() -> None:
    names = [each.name for each in files("gateway.processors").iterdir() if ".toml" in each.name]
    assert names
    for name in names:
        assert f"{preset.load(name.removesuffix('.toml')).name}.toml" == name


@pytest.mark.parametrize(
    ("added", "wrong"),
    [
        (b"\nsurprise = 1\n", "unknown field"),
        (b"\nname = \n", "Invalid value"),
        (b"\ntimeout_seconds = 'long'\n", "overwrite"),
    ],
)
def test_a_file_that_is_no_preset_refuses_the_start_and_says_why(added: bytes, wrong: str) -> None:
    file = (files("gateway.processors") / "stripe.toml").read_bytes()
    with pytest.raises(StartRefused, match=wrong):
        preset.parse(file.replace(b"\ntitle", added + b"title", 1))


def test_a_preset_is_not_changed_by_accident() -> None:
    with pytest.raises(AttributeError):
        STRIPE.name = "other"  # type: ignore[misc]
    copy = msgspec.structs.replace(STRIPE, operations=())
    assert isinstance(copy, Preset)
    assert copy.candidates("POST", "/v1/refunds") == ()
