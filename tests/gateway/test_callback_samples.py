"""A test event is one for every scheme that can be signed, and means nothing in any."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest

from gateway.callback_events import read_events
from gateway.callback_samples import NoSample, sample, type_of
from gateway.callback_scrub import scrubbed
from gateway.preset import load, names
from gateway.preset_callbacks import CallbackEffect, CallbackEvents
from gateway.signatures import (
    SCHEMES,
    Genuine,
    Posted,
    Secrets,
    new_secret,
    signed,
    verified,
)
from vault.payment_events import Effect

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)
URL = "https://pay.example/callbacks/cbe_x"
NAME = "panward-test-0a1b2c3d"


def rules_of(preset: str) -> CallbackEvents:
    rules = load(preset).callbacks
    assert rules is not None
    return rules


def that_can_be_signed() -> Iterator[tuple[str, str]]:
    for preset in names():
        rules = load(preset).callbacks
        for scheme in rules.schemes if rules is not None else ():
            if SCHEMES[scheme].kind == "hmac":
                yield preset, scheme


@pytest.mark.parametrize(("preset", "name"), list(that_can_be_signed()))
def test_a_sample_is_accepted_and_means_nothing(preset: str, name: str) -> None:
    rules, scheme = rules_of(preset), SCHEMES[name]
    headers, body = sample(rules, scheme, NAME, at=AT)
    secret = new_secret(scheme, os.urandom)
    headers, body = signed(scheme, headers, body, secret, at=AT, url=URL, keep=False)
    assert verified(scheme, Posted(headers, body, URL), Secrets((secret,)), at=AT) == Genuine()
    assert scrubbed(rules, scheme, headers, body).body is body
    (event,) = read_events(rules, scheme, headers, body)
    assert event.type == type_of(scheme)
    assert event.type.lower().replace("_", ".") == "panward.test"
    assert (event.effect, event.merchant_reference, event.payment_reference) == (None, None, None)


def test_what_would_have_an_effect_is_no_sample() -> None:
    rules = rules_of("stripe")
    every = CallbackEffect(types=("panward.*",), effect=Effect.APPROVED)
    with pytest.raises(NoSample):
        sample(msgspec.structs.replace(rules, effects=(every,)), SCHEMES["stripe"], NAME, at=AT)


@pytest.mark.parametrize("path", ["$.type", "a[0]", "/type"])
def test_a_preset_whose_paths_are_no_plain_names_has_none(path: str) -> None:
    rules = msgspec.structs.replace(rules_of("stripe"), type=(path,), id=("id",))
    with pytest.raises(NoSample):
        sample(rules, SCHEMES["stripe"], NAME, at=AT)


def test_what_is_no_post_of_events_has_none() -> None:
    rules = rules_of("mollie")
    with pytest.raises(NoSample):
        sample(rules, SCHEMES["mollie_classic"], NAME, at=AT)
