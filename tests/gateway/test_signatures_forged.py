"""Forged callbacks: whatever is not exactly what a processor signed, just now, is refused."""

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.signatures import Forged, Genuine, Posted, Secret
from gateway.signatures_recipes import compact
from tests.gateway.callback_senders import (
    AT,
    BODY,
    HEX_KEY,
    SECONDS,
    SENDERS,
    Sender,
    another,
    judged,
    mac_of,
    reason,
    with_header,
)

pytestmark = pytest.mark.guards("T-52")

MISMATCH: Final = "signature_mismatch"
MALFORMED: Final = "signature_malformed"
MISSING: Final = "signature_missing"
STALE: Final = "signature_stale"
NO_SECRET: Final = "secret_missing"
ALL = tuple(SENDERS.values())
IN_HEADER = tuple(each for each in ALL if each.header is not None)
TIMED = tuple(each for each in ALL if each.timed)
NAMED = tuple(each for each in ALL if each.names_key)

Forgery = Callable[[Sender], Posted]


def with_mac(sender: Sender, change: Callable[[str], str]) -> Posted:
    post = sender.post()
    mac = mac_of(post, sender)
    if sender.header is None:
        return replace(post, body=post.body.replace(mac.encode(), change(mac).encode()))
    return with_header(sender, lambda text: text.replace(mac, change(mac)), post)


def respelled(sender: Sender) -> Posted:
    """The code in another spelling of the same bytes."""
    mac = mac_of(sender.post(), sender)
    if mac.endswith("="):  # the last character has two bits to spare
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        spelled = mac[:-2] + alphabet[alphabet.index(mac[-2]) + 1] + "="
    else:
        spelled = mac.lower() if mac.isupper() else mac.upper()
    return with_mac(sender, lambda _: spelled)


def reserialized(sender: Sender) -> Posted:
    document = json.loads(BODY)
    document["payload"] = dict(reversed(document["payload"].items()))
    return replace(sender.post(), body=json.dumps(document).encode())


def body(change: Callable[[bytes], bytes]) -> Forgery:
    return lambda sender: replace(sender.post(), body=change(sender.post().body))


def headers(change: Callable[[list[tuple[str, str]]], list[tuple[str, str]]]) -> Forgery:
    return lambda sender: replace(sender.post(), headers=change(list(sender.post().headers)))


def named(sender: Sender, lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [each for each in lines if each[0] == sender.header]


FORGERIES: list[tuple[str, Iterable[Sender], Forgery, set[str]]] = [
    ("one_bit_of_the_code", ALL, lambda it: with_mac(it, another), {MISMATCH}),
    ("truncated", ALL, lambda it: with_mac(it, lambda mac: mac[:-2]), {MALFORMED}),
    ("extended", ALL, lambda it: with_mac(it, lambda mac: mac + "ab"), {MALFORMED}),
    ("no_code", ALL, lambda it: with_mac(it, lambda _: ""), {MALFORMED}),
    (
        "all_zeros",
        ALL,
        lambda it: with_mac(it, lambda mac: re.sub("[0-9A-Za-z+/]", "0", mac)),
        # Nobody writes base64 of zeros so: its spare bits are set
        {MISMATCH, MALFORMED},
    ),
    ("code_with_a_space", ALL, lambda it: with_mac(it, lambda mac: f"{mac} "), {MALFORMED}),
    (
        "code_with_a_line_end",
        IN_HEADER,
        lambda it: with_mac(it, lambda mac: f"{mac}\n"),
        {MALFORMED},
    ),
    (
        "unicode_digits_in_the_code",
        IN_HEADER,
        lambda it: with_mac(it, lambda mac: "\u0661" + mac[1:]),
        {MALFORMED},
    ),
    (
        "wide_letters_in_the_code",
        IN_HEADER,
        lambda it: with_mac(it, lambda mac: "\uff41" + mac[1:]),
        {MALFORMED},
    ),
    (
        "nul_in_the_code",
        IN_HEADER,
        lambda it: with_mac(it, lambda mac: "\0" + mac[1:]),
        {MALFORMED},
    ),
    (
        "respelled_code",
        [each for each in ALL if each.scheme != "worldpay_access"],  # takes both spellings of hex
        respelled,
        {MISMATCH, MALFORMED},
    ),
    (
        "another_hash",
        ALL,
        lambda it: replace(it, hash="sha256" if it.hash != "sha256" else "sha512").post(),
        {MISMATCH, MALFORMED},
    ),
    (
        "sha1",
        [each for each in ALL if each.hash != "sha1"],
        lambda it: replace(it, hash="sha1").post(),
        {MALFORMED},
    ),
    ("another_body", IN_HEADER, lambda it: replace(it.post(), body=b'{"id": "evt_2"}'), {MISMATCH}),
    ("empty_body", ALL, lambda it: replace(it.post(), body=b""), {MISMATCH, MALFORMED, MISSING}),
    ("reserialized", IN_HEADER, reserialized, {MISMATCH}),
    (
        "space_between_tokens",
        [each for each in IN_HEADER if each.scheme != "authorize_net"],  # see `compact`
        body(lambda raw: raw.replace(b": ", b":")),
        {MISMATCH},
    ),
    ("space_in_a_string", IN_HEADER, body(lambda raw: raw.replace(b"a b", b"a  b")), {MISMATCH}),
    (
        "line_end_added",
        [each for each in IN_HEADER if each.scheme != "authorize_net"],
        body(lambda raw: raw + b"\n"),
        {MISMATCH},
    ),
    ("byte_order_mark", IN_HEADER, body(lambda raw: b"\xef\xbb\xbf" + raw), {MISMATCH}),
    ("member_appended", IN_HEADER, body(lambda raw: raw[:-1] + b',"a":1}'), {MISMATCH}),
    ("unicode_escape", IN_HEADER, body(lambda raw: raw.replace(b"evt", b"\\u0065vt")), {MISMATCH}),
    (
        "another_secret",
        ALL,
        lambda it: (
            it.other(HEX_KEY[::-1]).post()
            if it.scheme != "cybersource"
            else it.other("A" * 44).post()
        ),
        {MISMATCH},
    ),
    ("signed_without_a_header", IN_HEADER, headers(lambda _: []), {MISSING}),
    (
        "header_of_another_name",
        IN_HEADER,
        lambda it: replace(
            it.post(), headers=[("X-Signature", dict(it.post().headers)[it.header or ""])]
        ),
        {MISSING},
    ),
    (
        "header_twice",
        [each for each in IN_HEADER if each.scheme != "mollie_nextgen"],  # which rotates so
        lambda it: replace(
            it.post(), headers=[*it.post().headers, *named(it, list(it.post().headers))]
        ),
        {MALFORMED},
    ),
    (
        "second_header_in_capitals",
        IN_HEADER,
        lambda it: replace(
            it.post(), headers=[*it.post().headers, ((it.header or "").upper(), "garbage")]
        ),
        {MALFORMED},
    ),
    ("empty_header", IN_HEADER, lambda it: with_header(it, lambda _: ""), {MALFORMED}),
    ("bare_comma", IN_HEADER, lambda it: with_header(it, lambda _: ","), {MALFORMED}),
    ("garbage", IN_HEADER, lambda it: with_header(it, lambda _: "undefined"), {MALFORMED}),
    (
        "a_megabyte_of_commas",
        IN_HEADER,
        lambda it: with_header(it, lambda _: "," * 2**20),
        {MALFORMED},
    ),
    (
        "a_megabyte_before_it",
        IN_HEADER,
        lambda it: with_header(it, lambda text: "0" * 2**20 + text),
        {MALFORMED},
    ),
    (
        "a_thousand_guesses",
        IN_HEADER,
        lambda it: with_header(it, lambda text: ",".join([text] * 1000)),
        {MALFORMED},
    ),
    ("stale", TIMED, lambda it: replace(it, seconds=SECONDS - 301).post(), {STALE}),
    ("of_time_to_come", TIMED, lambda it: replace(it, seconds=SECONDS + 301).post(), {STALE}),
    (
        "made_fresh_without_the_secret",
        TIMED,
        lambda it: redated(replace(it, seconds=SECONDS - 3600)),
        {MISMATCH},
    ),
    (
        "time_in_unicode_digits",
        TIMED,
        lambda it: retimed(it, lambda text: "\u0661" + text[1:]),
        {MALFORMED},
    ),
    ("time_below_zero", TIMED, lambda it: retimed(it, lambda text: f"-{text}"), {MALFORMED}),
    ("time_with_a_sign", TIMED, lambda it: retimed(it, lambda text: f"+{text}"), {MALFORMED}),
    ("time_of_a_hundred_digits", TIMED, lambda it: retimed(it, lambda _: "9" * 100), {MALFORMED}),
    ("time_that_is_nan", TIMED, lambda it: retimed(it, lambda _: "nan"), {MALFORMED}),
    ("time_with_a_fraction", TIMED, lambda it: retimed(it, lambda text: f"{text}.0"), {MALFORMED}),
    (
        "time_with_a_leading_zero",
        TIMED,
        lambda it: retimed(it, lambda text: f"0{text}"),
        {MISMATCH},
    ),
    ("no_time", TIMED, lambda it: retimed(it, lambda _: ""), {MALFORMED}),
    (
        "another_key_id",
        NAMED,
        lambda it: replace(it, secret=replace(it.secret, key_id="2")).post(),
        {MISMATCH},
    ),
]


def retimed(sender: Sender, change: Callable[[str], str]) -> Posted:
    """Write another time where the post says when it was signed."""
    text = str(sender.seconds)
    post = sender.post()
    changed = [
        (name, re.sub(f"{text}0*", lambda found: change(found[0]), value))
        for name, value in post.headers
    ]
    assert changed != list(post.headers)
    return replace(post, headers=changed)


def redated(sender: Sender) -> Posted:
    """Put today's time beside a code of another time."""
    return retimed(sender, lambda text: text.replace(str(sender.seconds), str(SECONDS)))


CASES = [
    pytest.param(sender, forge, reasons, id=f"{name}-{sender.scheme}")
    for name, senders, forge, reasons in FORGERIES
    for sender in senders
]


def test_there_are_at_least_thirty_kinds() -> None:
    assert len({name for name, *_ in FORGERIES}) >= 30


@pytest.mark.parametrize("sender", ALL, ids=lambda each: each.scheme)
def test_what_the_forgeries_start_from_is_genuine(sender: Sender) -> None:
    assert reason(sender, sender.post()) is None


@pytest.mark.parametrize(("sender", "forge", "reasons"), CASES)
def test_a_forgery_is_refused(sender: Sender, forge: Forgery, reasons: set[str]) -> None:
    assert reason(sender, forge(sender)) in reasons


@pytest.mark.parametrize("text", ["", " ", "whsec_", "\t", "é", "line\nend"])
@pytest.mark.parametrize("sender", ALL, ids=lambda each: each.scheme)
def test_an_empty_secret_proves_nothing(sender: Sender, text: str) -> None:
    kept = judged(sender.scheme, sender.post(), Secret(sender.secret.key_id, text))
    assert kept == Forged(NO_SECRET)
    empty = replace(sender, secret=replace(sender.secret, text=""))
    assert judged(sender.scheme, empty.post(), Secret(sender.secret.key_id, text)) == Forged(
        NO_SECRET
    )


@pytest.mark.parametrize("sender", ALL, ids=lambda each: each.scheme)
def test_without_secrets_nothing_is_genuine(sender: Sender) -> None:
    assert judged(sender.scheme, sender.post()) == Forged(NO_SECRET)


@pytest.mark.parametrize("scheme", sorted(SENDERS))
@pytest.mark.parametrize("sender", ALL, ids=lambda each: each.scheme)
def test_a_post_of_another_scheme_is_refused(sender: Sender, scheme: str) -> None:
    if sender.scheme == scheme:
        return
    assert isinstance(judged(scheme, sender.post(), SENDERS[scheme].secret), Forged)


def test_a_signature_of_another_endpoint_of_square_is_refused() -> None:
    square = SENDERS["square"]
    elsewhere = replace(square, url="https://pay.example.com/callbacks/cbe_0002")
    assert reason(square, replace(elsewhere.post(), url=square.url)) == MISMATCH


# --- any bytes at all ---------------------------------------------------------------------


@given(st.sampled_from(ALL), st.binary(max_size=200), st.text(max_size=200))
def test_nothing_raises_and_nothing_at_random_is_genuine(
    sender: Sender, raw: bytes, text: str
) -> None:
    name = sender.header or "x-any"
    more = [("webhook-id", text), ("webhook-timestamp", text), (name, text)]
    assert isinstance(judged(sender.scheme, Posted(more, raw, ""), sender.secret), Forged)


@given(st.sampled_from(IN_HEADER), st.data())
def test_one_changed_byte_of_the_body_is_noticed(sender: Sender, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(BODY) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(BODY)
    changed[at] ^= 1 << bit
    if sender.scheme == "authorize_net" and compact(bytes(changed)) == compact(BODY):
        return
    post = sender.post()
    assert reason(sender, replace(post, body=bytes(changed))) == MISMATCH


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_what_a_json_text_means_survives_without_its_white_space(value: object) -> None:
    tight = json.dumps(value, separators=(",", ":")).encode()
    for indent in (None, 1, "\t"):
        assert compact(json.dumps(value, indent=indent).encode()) == tight


@pytest.mark.parametrize(
    "raw", [b'"\\' * 130_000, b'"' * 500_000, b" " * 500_000, b'"' + b"\\" * 500_001]
)
def test_white_space_is_taken_out_in_one_pass(raw: bytes) -> None:
    began = time.process_time()
    compact(raw)
    assert time.process_time() - began < 0.5


def test_only_the_white_space_of_authorize_net_may_differ() -> None:
    sender = SENDERS["authorize_net"]
    tight = json.dumps(json.loads(BODY), separators=(",", ":")).encode()
    loose = replace(sender.post(tight), body=BODY)
    assert reason(sender, loose) is None
    assert reason(sender, replace(loose, body=BODY.replace(b"a b", b"ab"))) == MISMATCH


@pytest.mark.parametrize("sender", TIMED, ids=lambda each: each.scheme)
def test_the_clock_may_differ_by_five_minutes(sender: Sender) -> None:
    for seconds, expected in ((300, None), (301, STALE)):
        for way in (-1, 1):
            at = AT + timedelta(seconds=way * seconds)
            assert reason(sender, sender.post(), at) == expected


def test_untimed_posts_are_taken_late() -> None:
    """Where no time is signed there is none to check: the inbox takes each event once."""
    for sender in ALL:
        if not sender.timed:
            assert (
                judged(sender.scheme, sender.post(), sender.secret, at=AT + timedelta(days=30))
                == Genuine()
            )
