"""The keys of custody over a key service for tests."""

from collections.abc import Callable

from vault.keys import RevealKeys, Sealed, TokenizeKeys
from vault.observer import Observer, Silent
from vault.pan import Pan
from vault.transit import Transit

TOKEN = "pwt_test_0123456789abcdefghjkmnpqrsda"
INTENT = "01936b2e-7c00-7abc-8def-0123456789ab"


def tokenize_keys(
    transit: Transit, *, observer: Observer | None = None, now: Callable[[], float] = lambda: 0.0
) -> TokenizeKeys:
    return TokenizeKeys(
        transit,
        "test",
        fingerprint_version=1,
        digest_version=1,
        observer=observer or Silent(),
        now=now,
    )


def reveal_keys(
    transit: Transit, *, observer: Observer | None = None, now: Callable[[], float] = lambda: 0.0
) -> RevealKeys:
    return RevealKeys(transit, "test", digest_version=1, observer=observer or Silent(), now=now)


async def open_pan(keys: RevealKeys, sealed: Sealed, **place: str) -> Pan:
    where = {"tenant": "t_01", "token": TOKEN, "reference": f"{INTENT}/0", **place}
    return await keys.open_pan(sealed, **where)
