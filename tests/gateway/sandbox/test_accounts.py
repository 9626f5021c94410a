"""Whose API key a call carries."""

import base64

import pytest

from gateway.sandbox.accounts import Accounts, refuse_unknown
from gateway.sandbox.refusals import Refusal
from tests.gateway.sandbox.harness import API_KEY, OTHER_KEY, Clock


@pytest.fixture
def accounts() -> Accounts:
    return Accounts([API_KEY, OTHER_KEY], new_id=str, now=Clock(), fingerprint_key=b"k")


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("header", "account"),
    [
        (f"Bearer {API_KEY}", "acct_1"),
        (f"bearer  {OTHER_KEY}", "acct_2"),
        (basic(f"{OTHER_KEY}:"), "acct_2"),
        (basic(f"{API_KEY}:ignored"), "acct_1"),
        (basic(API_KEY), "acct_1"),
    ],
)
def test_known(accounts: Accounts, header: str, account: str) -> None:
    assert accounts.named_by(header) == account
    assert account in list(accounts)
    assert refuse_unknown(header, account) == account


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        API_KEY,
        "Bearer",
        "Bearer \udcff",
        f"Bearer {API_KEY}x",
        f"Digest {API_KEY}",
        "Basic !",
        "Basic /w==",
        basic(f":{API_KEY}"),
    ],
)
def test_unknown(accounts: Accounts, header: str | None) -> None:
    assert accounts.named_by(header) is None
    with pytest.raises(Refusal) as refused:
        refuse_unknown(header, None)
    assert (refused.value.status, refused.value.executed) == (401, False)
    assert API_KEY not in refused.value.error.message


def test_books_are_an_accounts_own(accounts: Accounts) -> None:
    assert accounts.books("acct_1") is not accounts.books("acct_2")
    assert accounts.books("acct_1").counts is accounts.counts


def test_no_key_is_kept(accounts: Accounts) -> None:
    assert API_KEY not in repr(vars(accounts))
