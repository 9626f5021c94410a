"""Braintree's callbacks: a form of two fields, the second signed in the first. Pure.

Its servers ask an endpoint to sign a word of theirs (`bt_challenge`) with the key that signs
callbacks, and so can anybody. What looks like such a word is therefore all that is ever signed on
demand, and never taken for a callback. What never lives here: what the payload means.
"""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import quote_plus

from gateway.codecs.form import decode
from gateway.signatures_layouts import HEADER_CHARACTERS_MAX, SIGNATURES_MAX, Written
from gateway.signatures_macs import Claimed, Mac, ascii_key, hexadecimal
from gateway.signatures_terms import (
    CannotSign,
    Forged,
    Genuine,
    Posted,
    Random,
    Reason,
    Secret,
    Secrets,
)

_NAMES: Final = ("bt_signature", "bt_payload")
_PAIR: Final = re.compile(r"([A-Za-z0-9_]{1,64})\|([0-9a-f]{40})")
_PAYLOAD: Final = re.compile("[A-Za-z0-9+/=\r\n]+")
_CHALLENGE: Final = re.compile("[a-f0-9]{20,32}")


def _hashed_key(text: str) -> tuple[bytes, ...]:
    return tuple(
        hashlib.sha1(key, usedforsecurity=False).digest()  # its own key derivation
        for key in ascii_key(text)
    )


@dataclass(frozen=True, slots=True, repr=False)
class _Form:
    signature: str
    payload: str
    pieces: tuple[bytes, bytes]  # the two fields as they came, in their order


@dataclass(frozen=True, slots=True)
class Braintree:
    """The scheme of `bt_signature` and `bt_payload`; a secret's key id is its public key."""

    mac: Mac = field(default_factory=lambda: Mac(_hashed_key, (hexadecimal,), "sha1"))

    def proven(self, posted: Posted, secrets: Secrets, *, at: datetime) -> Genuine | Forged:
        del at  # no time is signed
        form = _form(posted.body)
        if isinstance(form, str):
            return Forged(form)
        claimed = _claimed(form.signature)
        if claimed is None or _CHALLENGE.fullmatch(form.payload.strip()):
            return Forged("signature_malformed")
        if not self.mac.has_key(secrets.signing):
            return Forged("secret_missing")
        # Of a payload that ends with a line end, some senders sign it and post it without.
        messages = (form.payload.encode("ascii"), f"{form.payload}\n".encode("ascii"))
        matches = self.mac.matches(messages, secrets.signing, claimed)
        return Genuine() if matches else Forged("signature_mismatch")

    def signed(
        self, posted: Posted, secret: Secret, *, at: datetime, keep: bool
    ) -> tuple[Written, bytes]:
        del at
        keys, form = self.mac.keys(secret.text), _form(posted.body)
        if not keys or isinstance(form, str):
            raise CannotSign
        code = self.mac.made(keys[0], form.payload.encode("ascii"))
        pair = quote_plus(f"{secret.key_id}|{code}").encode("ascii")
        pieces = [
            (piece + b"%26" if keep else b"bt_signature=") + pair
            if piece.startswith(b"bt_signature=")
            else piece
            for piece in form.pieces
        ]
        return tuple(posted.headers), b"&".join(pieces)

    def new_secret(self, random: Random) -> Secret:
        return Secret(random(8).hex(), random(16).hex())

    def challenge_reply(self, value: str, secrets: Secrets) -> str | None:
        """Sign a challenge; nothing that could be a callback's payload."""
        if not _CHALLENGE.fullmatch(value):
            return None
        for secret in secrets.signing:
            for key in self.mac.keys(secret.text):
                return f"{secret.key_id}|{self.mac.made(key, value.encode('ascii'))}"
        return None


def _form(body: bytes) -> _Form | Reason:
    """Read the two fields, each once, and no other: nothing else would be signed."""
    pieces = body.split(b"&", 2)
    found = [piece.partition(b"=") for piece in pieces]
    names = sorted(name.decode("latin-1") for name, _, _ in found)
    if names != sorted(_NAMES):
        return "signature_malformed" if _NAMES[0] in names else "signature_missing"
    values = {name.decode("ascii"): decode(value) for name, _, value in found}
    signature, payload = (values[name] for name in _NAMES)
    if signature is None or payload is None or not _PAYLOAD.fullmatch(payload):
        return "signature_malformed"
    return _Form(signature, payload, (pieces[0], pieces[1]))


def _claimed(signature: str) -> tuple[Claimed, ...] | None:
    pairs = [_PAIR.fullmatch(each) for each in signature.split("&", SIGNATURES_MAX)]
    if len(signature) > HEADER_CHARACTERS_MAX or len(pairs) > SIGNATURES_MAX:
        return None
    claimed = tuple(Claimed(pair[2], pair[1]) for pair in pairs if pair is not None)
    return claimed if len(claimed) == len(pairs) else None
