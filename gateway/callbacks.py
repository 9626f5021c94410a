"""Callbacks: a processor reports, and it is acknowledged once that is on record.

1. The endpoint in the URL names tenant, route and scheme; nothing else in the request does.
2. Read the raw bytes, within size and time.
3. Prove them, with secrets from HashiCorp Vault, before anything of them is read.
4. Take card numbers out: nothing that follows has met one.
5. Read what is reported; what is genuine and cannot be read is an event without effect.
6. Put each event on record: inbox, ledger, effect on its authorization, all or nothing.
7. Only now the answer that the processor waits for.

A refusal tells a forger one word; a run of them is counted, and put on record. What never may live
here: what a signature looks like, what an event means, and what merchants are told.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, assert_never

from aiohttp import web

from gateway.bodies import read_whole_body
from gateway.callback_events import CallbackEvent, read_events, read_notice, unreadable
from gateway.callback_scrub import Cleaned, masked_also, scrubbed
from gateway.errors import CallbackRefused, Malformed, NotFound, RateLimited
from gateway.metrics import Metrics
from gateway.preset_callbacks import CallbackEvents
from gateway.request_event import REQUEST_EVENT
from gateway.signatures import (
    SCHEMES,
    Forged,
    Genuine,
    NeedsCertificate,
    NeedsSource,
    Posted,
    Scheme,
    Secrets,
    challenge_reply,
    verified,
)
from vault.callback_endpoint_table import CallbackEndpoint, CallbackEndpointTable
from vault.callbacks import Callbacks, NewCallback, Received
from vault.keys import TokenizeKeys
from vault.pan import Pan

BODY_BYTES_MAX: Final = 512 * 1024
CHALLENGE: Final = "bt_challenge"
PATH: Final = "/callbacks/"
NOTICES_WAIT_SECONDS: Final = 30

_REFUSALS: Final = {"signature_stale": "stale", "source": "source"}

# What is between the processor and us, or proves it to us alone; not the merchant's.
_NOT_KEPT: Final = re.compile(
    "connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|host|content-length"
    "|expect|authorization|cookie|forwarded|x-forwarded-.*|x-real-ip|via|accept-encoding"
)


class SigningCertificates(Protocol):
    """Certificates that processors name in their callbacks, fetched and checked."""

    async def of(self, url: str) -> tuple[bytes, ...] | None: ...


class Sources(Protocol):
    """Whether a caller is a processor's own machine."""

    async def are(self, address: str, suffixes: tuple[str, ...]) -> bool: ...


class KnownCards(Protocol):
    """Which of these numbers are cards of a tenant."""

    async def __call__(self, tenant: str, numbers: Sequence[Pan]) -> Sequence[bool]: ...


@dataclass(frozen=True, slots=True)
class Proofs:
    """What proves a callback beside its secrets; None where the deployment has none of it."""

    certificates: SigningCertificates | None
    roots: tuple[bytes, ...]
    sources: Sources
    known_cards: KnownCards


class CallbackHandlers:
    """Handlers of `/callbacks/{endpoint}`."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        endpoints: CallbackEndpointTable,
        callbacks: Callbacks,
        keys: TokenizeKeys,
        rules: Mapping[str, CallbackEvents | None],
        proofs: Proofs,
        *,
        public_url: str,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        """`rules` are those of each route's preset; `public_url` is what processors call."""
        self._endpoints = endpoints
        self._callbacks = callbacks
        self._keys = keys
        self._rules = rules
        self._proofs = proofs
        self._public_url = public_url.rstrip("/")
        self._metrics = metrics
        self._now = now

    async def post(self, request: web.Request) -> web.Response:
        """`POST /callbacks/{endpoint}` → what the processor expects, once it is on record."""
        endpoint, scheme = await self._endpoint(request)
        raw = await read_whole_body(request, BODY_BYTES_MAX)
        headers = _headers(request)
        try:
            is_signed = await self._proven(endpoint, scheme, headers, raw, request.remote or "")
        except CallbackRefused as refusal:
            word = _REFUSALS.get(refusal.reason or "", "bad_signature")
            self._metrics.called_back(endpoint.route, word)
            raise
        if scheme.kind == "fetch":
            await self._note(endpoint, raw)
        else:
            await self._receive(endpoint, scheme, headers, raw, request.remote, is_signed=is_signed)
        reply = scheme.reply
        return web.Response(
            status=reply.status, body=reply.body, headers={"Content-Type": reply.content_type}
        )

    async def get(self, request: web.Request) -> web.Response:
        """`GET /callbacks/{endpoint}` → that it is there, as some processors ask before."""
        endpoint, scheme = await self._endpoint(request)
        asked = request.query.get(CHALLENGE)
        if asked is not None:
            answer = challenge_reply(scheme, asked, await self._secrets(endpoint))
            if answer is not None:
                return web.Response(text=answer)
        if not scheme.health_get:
            raise NotFound
        return web.Response()

    # --- whose it is, and whether it is true ------------------------------------------------

    async def _endpoint(self, request: web.Request) -> tuple[CallbackEndpoint, Scheme]:
        endpoint = await self._endpoints.endpoint(request.match_info["endpoint"], self._now())
        rules = None if endpoint is None else self._rules.get(endpoint.route)
        if endpoint is None or rules is None or endpoint.scheme not in rules.schemes:
            raise NotFound  # a preset may have changed since: an unsigned scheme is no way round
        event = request[REQUEST_EVENT]
        event.tenant = endpoint.tenant
        return endpoint, SCHEMES[endpoint.scheme]

    async def _secrets(self, endpoint: CallbackEndpoint) -> Secrets:
        return Secrets.of(await self._keys.callback_secrets(endpoint.tenant, endpoint.route) or {})

    async def _proven(
        self,
        endpoint: CallbackEndpoint,
        scheme: Scheme,
        headers: tuple[tuple[str, str], ...],
        raw: bytes,
        address: str,
    ) -> bool:
        """Return whether a signature proves it. Raises CallbackRefused; any KeysError."""
        posted = Posted(headers, raw, f"{self._public_url}{PATH}{endpoint.id}")
        secrets, at = await self._secrets(endpoint), self._now()
        said = verified(scheme, posted, secrets, at=at)
        if isinstance(said, NeedsCertificate):
            certificates = await self._certificates(said.url)
            said = verified(
                scheme, posted, secrets, at=at, certificates=certificates, roots=self._proofs.roots
            )
        match said:
            case Genuine(is_signed):
                return is_signed
            case Forged(reason):
                raise CallbackRefused(reason)
            case NeedsSource(suffixes):
                if not await self._proofs.sources.are(address, suffixes):
                    raise CallbackRefused("source")
                return False
            case NeedsCertificate():
                raise CallbackRefused("certificate_refused")
            case _ as unreachable:
                assert_never(unreachable)

    async def _certificates(self, url: str) -> tuple[bytes, ...]:
        named = self._proofs.certificates
        found = None if named is None else await named.of(url)
        if found is None:
            raise CallbackRefused("certificate_refused")
        return found

    # --- what it reports --------------------------------------------------------------------

    async def _note(self, endpoint: CallbackEndpoint, raw: bytes) -> None:
        """Keep the id that a notice names: what became of it is asked, and nobody believed."""
        reference = read_notice(raw)
        if not await self._endpoints.notice(endpoint, reference, self._now()):
            raise RateLimited(NOTICES_WAIT_SECONDS)
        self._metrics.called_back(endpoint.route, "ok")

    async def _receive(
        self,
        endpoint: CallbackEndpoint,
        scheme: Scheme,
        headers: tuple[tuple[str, str], ...],
        raw: bytes,
        address: str | None,
        *,
        is_signed: bool,
    ) -> None:
        """Put all of its events on record: the processor hears of success when all are."""
        rules = self._rules[endpoint.route]
        assert rules is not None, "an endpoint is found by them"
        kept = tuple(each for each in headers if not _NOT_KEPT.fullmatch(each[0].lower()))
        cleaned = await self._cleaned(endpoint.tenant, rules, scheme, kept, raw)
        try:
            events = read_events(rules, scheme, cleaned.headers, cleaned.body)
        except Malformed:
            events = (unreadable(cleaned.body),)
        signature: Literal["valid", "unsigned"] = "valid" if is_signed else "unsigned"
        at = self._now()
        received = await asyncio.gather(
            *(
                self._callbacks.receive(_new(endpoint, signature, event, cleaned, address, at))
                for event in events
            ),
            return_exceptions=True,
        )
        for one in received:
            if isinstance(one, BaseException):
                self._metrics.called_back(endpoint.route, "error")
                raise one
            word = "duplicate" if one is Received.REPEATED else "ok"
            self._metrics.called_back(endpoint.route, word)

    async def _cleaned(
        self,
        tenant: str,
        rules: CallbackEvents,
        scheme: Scheme,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
    ) -> Cleaned:
        """Take card numbers out; of one in an id's place, only if it is a card of the tenant."""
        cleaned = scrubbed(rules, scheme, headers, body)
        if cleaned.doubtful:
            known = await self._proofs.known_cards(tenant, cleaned.doubtful)
            cleaned = masked_also(cleaned, known)
        if cleaned.masked:
            self._metrics.scan_hits("callback", "pan", cleaned.masked)
        return cleaned


def _headers(request: web.Request) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name.decode("ascii", "replace"), value.decode("latin-1"))
        for name, value in request.raw_headers
    )


def _new(
    endpoint: CallbackEndpoint,
    signature: Literal["valid", "unsigned"],
    event: CallbackEvent,
    cleaned: Cleaned,
    address: str | None,
    at: datetime,
) -> NewCallback:
    return NewCallback(
        tenant=endpoint.tenant,
        route=endpoint.route,
        scheme=endpoint.scheme,
        endpoint=endpoint.id,
        signature=signature,
        event_id=event.event_id,
        event_type=event.type,
        event_at=event.at or at,
        effect=event.effect,
        action_reference=event.action_reference,
        payment_reference=event.payment_reference,
        merchant_reference=event.merchant_reference,
        amount=event.amount,
        currency=event.currency,
        decline_code=event.decline_code,
        is_scrubbed=bool(cleaned.masked),
        headers=cleaned.headers,
        body=event.body,
        source_address=address,
    )
