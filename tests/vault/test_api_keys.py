"""API keys: their form, their chance, how they are compared, and what they may be allowed."""

import base64
import hashlib
import hmac
import re
from typing import Final, get_args
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vault.api_keys import (
    RANDOM_BITS,
    AliasForm,
    KeyKind,
    PresentedKey,
    Scope,
    alias_digest,
    api_key_of,
    certificate_alias,
    new_alias,
    new_api_key,
    parse_api_key,
    parse_scopes,
    route_of,
    route_scope,
    signing_secret_name,
)
from vault.ids import CROCKFORD
from vault.tokens import Env
from vault.transit_items import is_name

KINDS: Final[tuple[KeyKind, ...]] = get_args(KeyKind)
ENVS: Final[tuple[Env, ...]] = get_args(Env)
NONE_SET: Final = "pwsk_test_" + "0" * 68


def presented(text: str) -> PresentedKey:
    key = parse_api_key(text)
    assert key is not None
    return key


def test_the_form_of_a_key() -> None:
    secret = api_key_of("secret_key", "test", 0)
    assert secret.text == NONE_SET
    assert secret.id == "k_" + "0" * 16
    assert secret.digest == hashlib.sha256(NONE_SET.encode()).digest()
    publishable = api_key_of("publishable_key", "live", (1 << RANDOM_BITS) - 1)
    assert publishable.text == "pwpk_live_" + "z" * 68
    assert publishable.id == "k_" + "z" * 16


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.sampled_from(ENVS), st.integers(0, (1 << RANDOM_BITS) - 1))
def test_what_is_made_is_read_back(kind: KeyKind, env: Env, random_bits: int) -> None:
    made = api_key_of(kind, env, random_bits)
    assert re.fullmatch("pw[ps]k_(test|live)_[0-9a-hjkmnp-tv-z]{68}", made.text)
    assert parse_api_key(made.text) == PresentedKey(made.id, kind, env, made.digest)


def test_a_new_key_differs_in_its_id_and_in_its_secret() -> None:
    keys = [new_api_key("secret_key", "test") for _ in range(1000)]
    assert len({key.id for key in keys}) == 1000
    assert len({key.text[-52:] for key in keys}) == 1000
    assert all(set(key.text[10:]) <= set(CROCKFORD) for key in keys)
    assert all(set(CROCKFORD) == {key.text[place] for key in keys} for place in range(10, 78))


@pytest.mark.parametrize(
    "text",
    [
        "",
        NONE_SET[:-1],
        NONE_SET + "0",
        NONE_SET + "\n",
        " " + NONE_SET,
        NONE_SET.upper(),
        NONE_SET.replace("pwsk", "pwxk"),
        NONE_SET.replace("test", "prod"),
        NONE_SET.replace("pwsk_test", "pwt_test"),
        *(NONE_SET[:-1] + letter for letter in "ilouAZ-_\uff10\u0660"),
        "Bearer " + NONE_SET,
    ],
)
def test_what_is_no_key_gives_none(text: str) -> None:
    assert parse_api_key(text) is None


def test_neither_the_key_nor_its_digest_is_printed() -> None:
    made = new_api_key("secret_key", "live")
    shown = repr((made, parse_api_key(made.text)))
    assert made.id in shown
    assert made.text not in shown
    assert made.text[-52:] not in shown
    assert repr(made.digest) not in shown


# --- comparing ----------------------------------------------------------------------------


@pytest.mark.guards("T-25")
def test_a_key_matches_its_own_digest_alone() -> None:
    made = new_api_key("secret_key", "test")
    assert presented(made.text).matches(made.digest)
    assert not presented(made.text).matches(new_api_key("secret_key", "test").digest)
    assert not presented(made.text).matches(None)
    assert not presented(made.text).matches(b"")
    assert not presented(made.text).matches(made.digest[:-1])


@pytest.mark.guards("T-25")
def test_no_digest_at_all_is_matched_by_nothing() -> None:
    """Not even by a key whose digest were what is compared with in its place."""
    assert not PresentedKey("k_0", "secret_key", "test", bytes(32)).matches(None)


@pytest.mark.guards("T-25")
def test_an_unknown_id_is_compared_as_long_as_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    made = new_api_key("secret_key", "test")
    assert presented(made.text).matches(made.digest)
    assert not presented(made.text).matches(None)
    assert compared == [(32, 32), (32, 32)]


# --- aliases ------------------------------------------------------------------------------

KEY_ID: Final = "k_" + "0" * 16
FORMS: Final[tuple[AliasForm, ...]] = get_args(AliasForm)


def test_an_alias_has_the_form_that_the_sdk_asks_for() -> None:
    key = new_alias("checkout_com", "test", KEY_ID).parts["secret_key"]
    assert re.fullmatch(r"sk_sbox_[a-z2-7]{26}[a-z2-7*#$=]", key)
    live = new_alias("checkout_com", "live", KEY_ID).parts["secret_key"]
    assert re.fullmatch(r"sk_[a-z2-7]{26}[a-z2-7*#$=]", live)
    login = new_alias("authorize_net", "test", KEY_ID).parts
    assert login["name"] == KEY_ID
    assert len(login["name"]) <= 25
    assert re.fullmatch("[A-Za-z0-9]{16}", login["transaction_key"])
    signing = new_alias("signing_key", "test", KEY_ID).parts
    assert str(UUID(signing["key_id"])) == signing["key_id"]
    assert len(base64.b64decode(signing["secret"], validate=True)) == 32
    with pytest.raises(ValueError, match="certificate"):
        new_alias("client_certificate", "test", KEY_ID)


def test_aliases_differ_in_every_character() -> None:
    made = [new_alias("checkout_com", "live", KEY_ID).parts["secret_key"] for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(len({key[place] for key in made}) == 32 for place in range(3, 29))
    assert {key[-1] for key in made} >= set("*#$=")
    keys = [new_alias("authorize_net", "live", KEY_ID).parts for _ in range(2000)]
    assert all(len({key["transaction_key"][n] for key in keys}) == 62 for n in range(16))


def test_an_alias_is_found_by_what_its_caller_shows() -> None:
    key = new_alias("checkout_com", "test", KEY_ID)
    assert alias_digest("checkout_com", key.parts["secret_key"]) == key.digest
    login = new_alias("authorize_net", "test", KEY_ID)
    assert alias_digest("authorize_net", ":".join(login.parts.values())) == login.digest
    signing = new_alias("signing_key", "test", KEY_ID)
    assert alias_digest("signing_key", signing.parts["key_id"]) == signing.digest
    certificate = certificate_alias(b"DER")
    sha256 = hashlib.sha256(b"DER").hexdigest()
    assert certificate.parts == {"sha256": sha256}
    assert alias_digest("client_certificate", sha256) == certificate.digest
    assert len({key.digest, login.digest, signing.digest, certificate.digest}) == 4


@pytest.mark.guards("T-29")
def test_an_alias_of_one_form_is_none_of_another() -> None:
    """A key id and a certificate's hash are no secrets: they open nothing but their own door."""
    for text in (str(UUID(int=1)), "0" * 64, "sk_" + "a" * 27, "a:" + "b" * 16):
        (digest,) = filter(None, (alias_digest(form, text) for form in FORMS))
        assert digest != hashlib.sha256(text.encode()).digest()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_alias_gives_none(form: AliasForm) -> None:
    for text in (
        *("", "x", NONE_SET, "sk_sbox_" + "a" * 26, "sk_" + "A" * 27),
        *("a" * 26 + ":" + "b" * 16, "a:" + "b" * 15, str(UUID(int=10**30)).upper()),
        *("0" * 64 + "\n", "\u0660" * 64),
    ):
        assert alias_digest(form, text) is None


def test_no_part_of_an_alias_is_printed() -> None:
    for form in FORMS[:2] + FORMS[3:]:
        made = new_alias(form, "test", KEY_ID)
        for part in made.parts.values():
            assert part not in repr(made)
        assert repr(made.digest) not in repr(made)


def test_where_an_issued_secret_is_kept() -> None:
    key_id = new_alias("signing_key", "test", KEY_ID).parts["key_id"]
    assert signing_secret_name(key_id) == f"signing-key-{key_id}"
    assert is_name(signing_secret_name(key_id))
    with pytest.raises(AssertionError):
        signing_secret_name("../stripe")


# --- scopes -------------------------------------------------------------------------------


def test_every_scope_is_read() -> None:
    names = ["tokenize", "read", "bin", "fingerprint", "update", "delete", "ledger", "webhooks"]
    assert [str(scope) for scope in Scope] == names
    scopes = parse_scopes([*names, "route:stripe", "route:stripe.eu-1_b"])
    assert scopes == {*names, "route:stripe", "route:stripe.eu-1_b"}
    assert Scope.READ in scopes
    assert route_scope("stripe") in scopes
    assert all(type(scope) is str for scope in scopes)


def test_none_and_twice() -> None:
    assert parse_scopes([]) == frozenset()
    assert parse_scopes(["read", "read"]) == {"read"}


UNKNOWN_SCOPES: Final = [
    "",
    "READ",
    "read ",
    "admin",
    "auditor",
    "*",
    "route",
    "route:",
    "route:*",
    "route:Stripe",
    "route:a/b",
    "route:a b",
    "route:a\n",
    "route:" + "a" * 65,
    "routes:stripe",
]


def test_an_unknown_scope_is_refused_by_its_position() -> None:
    known = "tokenize, read, bin, fingerprint, update, delete, ledger, webhooks, route:<name>"
    for scope in UNKNOWN_SCOPES:
        with pytest.raises(ValueError, match="scope") as refused:
            parse_scopes(["read", scope])
        assert str(refused.value) == f"scope number 2 is none of {known}"


def test_a_publishable_key_carries_no_scopes() -> None:
    assert parse_scopes([], kind="publishable_key") == frozenset()
    for scope in (*Scope, "route:stripe"):
        with pytest.raises(ValueError, match="no scopes"):
            parse_scopes([scope], kind="publishable_key")


def test_routes_in_scopes() -> None:
    assert route_scope("stripe") == "route:stripe"
    assert route_of("route:stripe") == "stripe"
    assert route_of("read") is None
    with pytest.raises(AssertionError):
        route_scope("Stripe")
