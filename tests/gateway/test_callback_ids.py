"""Processors' ids keep their bytes, and nothing that anybody could write a card into does."""

import base64
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape, quoteattr

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import preset
from gateway.callback_events import read_events
from gateway.callback_ids import id_selectors
from gateway.callback_scrub import Cleaned, masked_also, scrubbed
from gateway.preset_callbacks import CallbackEvents
from gateway.scan import find_cards
from gateway.signatures import SCHEMES, Scheme
from tests.cards import MASTERCARD, VISA, VISA_ALT
from tests.encoders import JSON, PLAIN, made_numbers
from vault.pan import Pan

LOADED = {name: preset.load(name).callbacks for name in preset.names()}
PRESETS = sorted(LOADED)
NUMBERS = made_numbers(40)
PLAIN_LEAF = "x1"
MASKED = f"{'*' * 12}4242"


def rules_of(name: str) -> CallbackEvents:
    rules = LOADED[name]
    assert rules is not None
    return rules


def scheme_of(name: str) -> Scheme:
    return SCHEMES[rules_of(name).schemes[0]]


def of_processor(rules: CallbackEvents) -> set[str]:
    """Give the paths of what a processor numbers itself."""
    paths = (rules.id, *rules.id_parts, rules.numbers)
    references = (rules.action_reference, rules.payment_reference)
    return {path for each in (*paths, *references) for path in each} - {*rules.type}


def all_paths(rules: CallbackEvents) -> set[str]:
    others = (rules.type, rules.at, rules.merchant_reference, rules.amount, rules.currency)
    return of_processor(rules).union(*others, rules.decline_code)


def nested(values: Mapping[str, object]) -> dict[str, object]:
    document: dict[str, object] = {}
    for path, value in values.items():
        *above, last = path.split(".")
        here = document
        for step in above:
            below = here.setdefault(step, {})
            assert isinstance(below, dict)
            here = below
        here[last] = value
    return document


def elements(document: Mapping[str, object]) -> Iterator[str]:
    for name, value in document.items():
        if isinstance(value, dict):
            attributes = [
                f" {key[1:]}={quoteattr(str(text))}"
                for key, text in value.items()
                if key.startswith("@")
            ]
            inner = {key: each for key, each in value.items() if not key.startswith("@")}
            yield f"<{name}{''.join(attributes)}>{''.join(elements(inner))}</{name}>"
        else:
            yield f"<{name}>{escape(str(value))}</{name}>"


def post(name: str, **values: object) -> bytes:
    """Write a post in which all that a preset reads is present."""
    paths = PLACES[name]
    document = nested({path: values.get(path, PLAIN_LEAF) for path in paths})
    match scheme_of(name).name:
        case "worldpay_wpg":
            return "".join(elements(document)).encode()
        case "braintree":
            payload = base64.encodebytes("".join(elements(document)).encode())
            return b"bt_signature=a&bt_payload=" + urllib.parse.quote_plus(payload).encode()
        case "adyen_item":
            items = [{"NotificationRequestItem": document}]
            return json.dumps({"live": "true", "notificationItems": items}).encode()
        case _:
            return json.dumps(document).encode()


def inside(body: bytes) -> bytes:
    fields = urllib.parse.parse_qs(body.decode())
    return base64.b64decode(fields["bt_payload"][0]) if "bt_payload" in fields else body


def clean(name: str, body: bytes) -> Cleaned:
    return scrubbed(rules_of(name), scheme_of(name), (), body)


PROCESSORS = [(name, path) for name in PRESETS for path in sorted(of_processor(rules_of(name)))]
MERCHANTS = [
    (name, path)
    for name in PRESETS
    for path in rules_of(name).merchant_reference
    if path not in of_processor(rules_of(name))
]
PLACES = {name: sorted(all_paths(rules_of(name))) for name in PRESETS}
EVERY = [(name, path) for name in PRESETS for path in PLACES[name]]


@pytest.mark.parametrize(("name", "path"), PROCESSORS)
def test_a_processor_s_number_keeps_its_bytes_and_is_asked_about(name: str, path: str) -> None:
    """Authorize.Net, Worldpay and older Adyen ids are digits alone: one in ten passes Luhn."""
    body = post(name, **{path: VISA})
    cleaned = clean(name, body)
    assert cleaned.body is body
    assert list(cleaned.doubtful) == [Pan.parse(VISA)]
    assert masked_also(cleaned, [False]) is cleaned
    after = masked_also(cleaned, [True])
    assert VISA.encode() not in inside(after.body)
    assert not find_cards(after.body).hits


@pytest.mark.parametrize("name", PRESETS)
def test_references_that_are_numbers_are_read_as_they_were_sent(name: str) -> None:
    rules = rules_of(name)
    references = {*rules.action_reference, *rules.payment_reference}
    body = post(name, **dict.fromkeys(references, VISA))
    cleaned = clean(name, body)
    assert cleaned.body is body
    (event,) = read_events(rules, scheme_of(name), cleaned.headers, cleaned.body)
    assert event.action_reference == (VISA if rules.action_reference else None)
    assert event.payment_reference == (VISA if rules.payment_reference else None)


@pytest.mark.parametrize(("name", "path"), PROCESSORS)
@pytest.mark.parametrize(
    "other", ["1" * 22, "74537604221222132710572", "881234567890", "NC6HT9CRT"]
)
def test_ids_that_look_like_no_card_are_not_even_asked_about(
    name: str, path: str, other: str
) -> None:
    body = post(name, **{path: other})
    cleaned = clean(name, body)
    assert cleaned.body is body
    assert cleaned.doubtful == ()


@pytest.mark.guards("T-44")
@pytest.mark.parametrize(("name", "path"), MERCHANTS)
@pytest.mark.parametrize("text", ["{}", "{} ", "order {}", "{}-1", "card {} cvc 123 exp 12/30"])
def test_a_merchant_s_own_reference_is_no_id(name: str, path: str, text: str) -> None:
    cleaned = clean(name, post(name, **{path: text.format(VISA)}))
    assert cleaned.doubtful == ()
    assert cleaned.masked
    assert VISA.encode() not in inside(cleaned.body)
    assert MASKED.encode() in inside(cleaned.body)
    assert b"123" not in inside(cleaned.body)


SPELLED = {
    name: encode
    for name, encode in PLAIN.items()
    if encode(VISA).isascii() and not {"\n", "\r", "\t"} & set(encode(VISA).decode())
}


@pytest.mark.guards("T-44")
@given(
    place=st.sampled_from(EVERY),
    number=st.sampled_from(NUMBERS),
    spelling=st.sampled_from(sorted(SPELLED)),
    before=st.sampled_from(["card ", "pan:", "é", "tr_", "#", "a" * 60 + " "]),
    after=st.sampled_from(["", " exp 12/30", ".", " a", "é"]),
)
def test_no_card_within_a_text_survives_in_any_place_of_any_preset(
    place: tuple[str, str], number: str, spelling: str, before: str, after: str
) -> None:
    name, path = place
    spelled = SPELLED[spelling](number).decode()
    cleaned = clean(name, post(name, **{path: f"{before}{spelled}{after}"}))
    assert cleaned.doubtful == ()
    assert cleaned.masked
    assert masked_also(cleaned, []) is cleaned
    assert not find_cards(cleaned.body).hits
    assert number.encode() not in inside(cleaned.body)
    assert clean(name, cleaned.body).body is cleaned.body


@given(place=st.sampled_from(EVERY), text=st.text(st.characters(codec="ascii", categories=["L"])))
def test_a_clean_post_is_the_same_object(place: tuple[str, str], text: str) -> None:
    body = post(place[0], **{place[1]: text})
    assert clean(place[0], body).body is body


@pytest.mark.parametrize("spelling", ["JSON escapes"])
def test_how_it_is_escaped_is_no_matter(spelling: str) -> None:
    body = b'{"id":"' + JSON[spelling](VISA) + b'"}'
    cleaned = clean("stripe", body)
    assert cleaned.body is body
    assert len(cleaned.doubtful) == 1


@pytest.mark.parametrize(
    "text", [f"{VISA[:4]} {VISA[4:]}", f"{VISA}, {VISA_ALT}", f"{VISA}.0", f"id{VISA}", f"{VISA}x"]
)
def test_what_is_more_than_a_number_is_no_id(text: str) -> None:
    cleaned = clean("stripe", post("stripe", **{"data.object.id": text}))
    assert (cleaned.doubtful, bool(cleaned.masked)) == ((), True)


def test_free_text_is_none_even_if_a_preset_names_it_as_one() -> None:
    rules = CallbackEvents(
        schemes=("stripe",),
        type=("type",),
        id=("metadata.id", "a.b"),
        numbers=('x["description"]', "data.Description", "descriptions"),
    )
    assert list(id_selectors(rules)) == ["a.b", "descriptions"]


def test_of_headers_only_the_id_s_own() -> None:
    plain = rules_of("stripe")
    rules = msgspec.structs.replace(plain, id=(), id_header="x-event-id")
    scheme = scheme_of("stripe")

    def of(rules: CallbackEvents, name: str, value: str) -> Cleaned:
        return scrubbed(rules, scheme, ((name, value),), b"{}")

    spared = of(rules, "X-Event-Id", f" {MASTERCARD}")
    assert list(spared.doubtful) == [Pan.parse(MASTERCARD)]
    assert masked_also(spared, [True]).headers == (("X-Event-Id", f" {'*' * 12}4444"),)
    for name, value in (("X-Event-Id", f"card {VISA}"), ("X-Other-Id", VISA)):
        assert of(rules, name, value).headers == ((name, value.replace(VISA, MASKED)),)
    for name in PRESETS:
        for header in ("X-Razorpay-Event-Id", "X-Event-Id", "Webhook-Id", "Paypal-Transmission-Id"):
            cleaned = scrubbed(rules_of(name), scheme_of(name), ((header, VISA),), b"{}")
            assert cleaned.headers == ((header, MASKED),)
            assert cleaned.doubtful == ()
