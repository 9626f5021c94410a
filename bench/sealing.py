"""Cards as browsers seal them, made before a run: each is good once, and for some minutes."""

import base64
import secrets
import ssl
import time
from collections.abc import Iterator
from typing import Final

import msgspec
from aiohttp import ClientSession, TCPConnector
from nacl.bindings import crypto_box_seal, sodium_pad

from gateway.embedded import TRIAL_ORIGINS, Credentials
from gateway.sealed import PADDED_BYTES

LIFE_SECONDS: Final = 600
PATH: Final = "/v1/edge-keys"


class PublishedKey(msgspec.Struct):
    """What is needed of a key."""

    kid: str
    public_key: str


class PublishedKeys(msgspec.Struct):
    """What `GET /v1/edge-keys` answers."""

    tenant: str
    keys: list[PublishedKey]


async def published_keys(credentials: Credentials) -> PublishedKeys:
    """Ask as a page does."""
    context = ssl.create_default_context(cafile=credentials.ca_file)
    headers = {"Authorization": f"Bearer {credentials.publishable_key}"}
    async with (
        ClientSession(connector=TCPConnector(ssl=context), headers=headers) as session,
        session.get(credentials.public_url + PATH) as response,
    ):
        return msgspec.json.decode(await response.read(), type=PublishedKeys)


def sealed_bodies(
    keys: PublishedKeys, numbers: Iterator[str], exp_year: int, count: int
) -> Iterator[bytes]:
    """Yield bodies of `POST /v1/tokens`, each with a card of its own."""
    newest = keys.keys[0]
    public_key = base64.b64decode(newest.public_key)
    ends = int(time.time()) + LIFE_SECONDS
    for _, number in zip(range(count), numbers, strict=False):
        message = {
            "card": {"exp_month": 12, "exp_year": exp_year, "number": number},
            "expires_at": ends,
            "kid": newest.kid,
            "nonce": base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode(),
            "origin": TRIAL_ORIGINS[0],
            "tenant": keys.tenant,
            "v": 1,
        }
        text = msgspec.json.encode(message, order="sorted")
        box = base64.b64encode(crypto_box_seal(sodium_pad(text, PADDED_BYTES), public_key))
        yield b'{"sealed":"%s","kid":"%s"}' % (box, newest.kid.encode())
