"""Who makes a call to a processor, and what was called: by base URL, on a port, in a tunnel.

Three ways in, one story: each gives a lane, a path as the processor knows it, and a credential of
panward's. What never lives here: what becomes of the call.
"""

import hashlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from aiohttp import web

from gateway.bodies import read_whole_body
from gateway.call import Call, CallRefused, ReadCall, read_call
from gateway.codecs.bodies import format_of
from gateway.codecs.splice import Format
from gateway.errors import NotAuthenticated, SignatureRefused
from gateway.lanes import Lane
from gateway.merchants import Caller, Merchants, basic_credential, bearer_key
from gateway.order import login_slots
from gateway.preset import Place
from gateway.request_event import REQUEST_EVENT
from gateway.resign import (
    Refusal,
    SignedCall,
    Verified,
    key_id_of,
    signing_key,
    verified,
)
from vault.api_keys import parse_api_key
from vault.keys import RevealKeys

KEY_HEADER: Final = "Panward-Key"
OWN_IDEMPOTENCY_HEADER: Final = "Panward-Idempotency-Key"
"""For processors that honor no key of their own: the claim is ours alone."""

CONNECTION_HEADERS: Final = frozenset({KEY_HEADER.lower(), "proxy-authorization"})


@dataclass(frozen=True, slots=True, repr=False)
class Arrival:
    """A request at a lane. `key` is what a tunnel was opened with: then no other counts."""

    request: web.Request
    lane: Lane
    path: str
    query: str
    key: str | None = None

    @property
    def format(self) -> Format | None:
        """How the caller writes this call, and so wants to read."""
        said = format_of(self.request.headers.get("Content-Type", ""))
        candidates = self.lane.preset.candidates(self.request.method, self.path)
        in_graphql = any(each.format == "graphql" for each in candidates)
        return Format.GRAPHQL if in_graphql and said is Format.JSON else said


def by_base_url(request: web.Request, lane: Lane) -> Arrival:
    """`/out/{route}/…`: the rest of the path is the processor's."""
    raw, _, query = request.raw_path.partition("?")
    return Arrival(request, lane, raw.removeprefix(f"/out/{lane.name}"), query)


def at_the_root(request: web.Request, lane: Lane, key: str | None = None) -> Arrival:
    """A tunnel, or a port of the route's own: the whole path is the processor's."""
    raw, _, query = request.raw_path.partition("?")
    return Arrival(request, lane, raw, query, key)


async def read_arrival(arrival: Arrival) -> Call:
    """Read the call as it goes on, without what is between the caller and us."""
    request, lane = arrival.request, arrival.lane
    body = await read_whole_body(request, lane.preset.body_bytes_max)
    headers = [
        (name, value)
        for name, value in request.headers.items()
        if name.lower() not in CONNECTION_HEADERS
    ]
    return Call(request.method, arrival.path, arrival.query, headers, body)


class Callers:
    """Finds out who calls, wherever an SDK puts its key."""

    def __init__(
        self, merchants: Merchants, keys: RevealKeys, *, now: Callable[[], datetime]
    ) -> None:
        self._merchants = merchants
        self._keys = keys
        self._now = now

    def needs_body(self, arrival: Arrival) -> bool:
        """Whether the key stands in the body, or in what the body was signed with."""
        presented = arrival.lane.preset.credential.presented
        in_headers = arrival.key is not None or not arrival.lane.injects
        return not in_headers and bool({"body", "signature"} & set(presented))

    async def of(self, arrival: Arrival, call: Call | None = None) -> Caller:
        """Return the caller, who may use this route. Raises NotAuthenticated, NotPermitted."""
        caller = await self._caller(arrival, call)
        event = arrival.request[REQUEST_EVENT]
        event.tenant, event.key = caller.tenant, caller.key
        caller.require_route(arrival.lane.name)
        return caller

    async def exchanged(self, arrival: Arrival) -> str:
        """Return the key of the caller who asks for an access token: its Basic password."""
        found = basic_credential(arrival.request.headers)
        key = arrival.key or (found[1] if found is not None else "")
        caller = await self._merchants.authenticate(key)
        event = arrival.request[REQUEST_EVENT]
        event.tenant, event.key = caller.tenant, caller.key
        caller.require_route(arrival.lane.name)
        return key

    async def _caller(self, arrival: Arrival, call: Call | None) -> Caller:
        if arrival.key is not None:
            return await self._merchants.authenticate(arrival.key)
        certificate = _certificate(arrival.request)
        if certificate is not None:
            digest = hashlib.sha256(certificate).hexdigest()
            return await self._merchants.authenticate_alias("client_certificate", digest)
        headers, lane = arrival.request.headers, arrival.lane
        if not lane.injects:
            return await self._merchants.authenticate(headers.get(KEY_HEADER))
        credential = lane.preset.credential
        for place in credential.presented:
            text = _in_headers(place, headers, credential.header)
            if text is not None:
                return await self._named(text, lane)
        if call is not None and "body" in credential.presented:
            return await self._in_body(lane, call)
        if call is not None and "signature" in credential.presented:
            return (await self._signer(call))[0]
        raise NotAuthenticated

    async def proved(self, lane: Lane, caller: Caller, call: Call) -> Call:
        """Return the call, proved by its signature where the processor has one.

        What was not signed by this caller is not signed again. Raises SignatureRefused,
        NotAuthenticated, CredentialsMissing; any KeysError.
        """
        if lane.preset.credential.sent != "signature":
            return call
        if lane.injects:
            signer, proof = await self._signer(call)
            if signer.tenant != caller.tenant:
                raise NotAuthenticated
            return replace(call, proof=proof)
        key = lane.signing_key(await lane.secret(caller.tenant))
        outcome = verified(_signed(call), key, now=self._now())
        if isinstance(outcome, Refusal):
            raise SignatureRefused(outcome.reason)
        return replace(call, proof=outcome)

    async def _signer(self, call: Call) -> tuple[Caller, Verified]:
        """Who signed a call with a key that we gave out."""
        key_id = key_id_of(call.headers)
        claimant = await self._merchants.claimed_by(key_id)
        secret = await self._keys.signing_secret(claimant.tenant, claimant.signing_key)
        key = signing_key(claimant.signing_key, secret or "")
        if key is None:
            raise NotAuthenticated
        outcome = verified(_signed(call), key, now=self._now())
        caller = claimant.proven(outcome)
        assert isinstance(outcome, Verified), "a refusal proves nobody"
        return caller, outcome

    async def _named(self, text: str, lane: Lane) -> Caller:
        alias = lane.preset.credential.alias
        if alias == "checkout_com" and parse_api_key(text) is None:
            return await self._merchants.authenticate_alias(alias, text)
        return await self._merchants.authenticate(text)

    async def _in_body(self, lane: Lane, call: Call) -> Caller:
        read = read_call(lane.preset, call)
        if isinstance(read, CallRefused):
            raise NotAuthenticated
        name, key = _login(read)
        if parse_api_key(key) is not None:
            return await self._merchants.authenticate(key)
        return await self._merchants.authenticate_alias("authorize_net", f"{name}:{key}")


def _signed(call: Call) -> SignedCall:
    target = f"{call.path}?{call.query}" if call.query else call.path
    return SignedCall(call.method, target, call.headers, call.body)


def _login(read: ReadCall) -> tuple[str, str]:
    """The name and the key that stand in a body; each must be given once."""
    slots = login_slots(read)
    if len(slots.name) != 1 or len(slots.key) != 1:
        raise NotAuthenticated
    return slots.name[0].text or "", slots.key[0].text or ""


def _in_headers(place: Place, headers: Mapping[str, str], header: str | None) -> str | None:
    match place:
        case "bearer":
            return bearer_key(headers)
        case "basic_user" | "basic_password":
            found = basic_credential(headers)
            return None if found is None else found[place == "basic_password"]
        case "header":
            return headers.get(header or "")
        case _:
            return None


def _certificate(request: web.Request) -> bytes | None:
    """The client certificate that the handshake verified, DER."""
    tls: object = request.get_extra_info("ssl_object")
    return tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLObject) else None
