"""Whose credential a call carries."""

import base64

import pytest

from gateway.sandbox.accounts import ApiKeys, basic, bearer, credentials_of
from tests.gateway.sandbox.harness import API_KEY, OTHER_KEY


def header(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def test_an_account_for_each_key() -> None:
    made = credentials_of([API_KEY, OTHER_KEY])
    assert {name: each.api_key for name, each in made.items()} == {
        "acct_1": API_KEY,
        "acct_2": OTHER_KEY,
    }
    assert made == credentials_of([API_KEY, OTHER_KEY]), "the same at each start"
    assert len({each.user for each in made.values()}) == 2
    secrets = [base64.b64decode(each.secret, validate=True) for each in made.values()]
    assert len(set(secrets)) == 2


def test_found_by_api_key() -> None:
    api_keys = ApiKeys(credentials_of([API_KEY, OTHER_KEY]))
    assert api_keys.account_of(API_KEY) == "acct_1"
    assert api_keys.account_of(OTHER_KEY) == "acct_2"
    for unknown in (None, "", f"{API_KEY}x", "\udcff"):
        assert api_keys.account_of(unknown) is None


def test_no_key_is_kept() -> None:
    assert API_KEY not in repr(vars(ApiKeys(credentials_of([API_KEY]))))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"Bearer {API_KEY}", API_KEY),
        (f"bearer  {API_KEY} ", API_KEY),
        ("Bearer", None),
        ("Bearer ", None),
        (API_KEY, None),
        (header(API_KEY), None),
        ("", None),
        (None, None),
    ],
)
def test_bearer(text: str | None, key: str | None) -> None:
    assert bearer(text) == key


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        (header(f"{API_KEY}:"), (API_KEY, "")),
        (header("user:pass:word"), ("user", "pass:word")),
        (header(API_KEY), (API_KEY, "")),
        (header(f":{API_KEY}"), ("", API_KEY)),
        ("Basic !", None),
        ("Basic /w==", None),
        ("Basic", ("", "")),
        (f"Digest {API_KEY}", None),
        ("", None),
        (None, None),
    ],
)
def test_basic(text: str | None, pair: tuple[str, str] | None) -> None:
    assert basic(text) == pair
