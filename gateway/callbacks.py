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
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final, Protocol, TypeVar, assert_never
from weakref import WeakValueDictionary

from aiohttp import web

from gateway.bodies import read_whole_body
from gateway.callback_events import CallbackEvent, read_events, read_notice, unreadable
from gateway.callback_scrub import AT_ONCE_BYTES_MAX, Cleaned, masked_also, scrubbed
from gateway.callback_sources import certifies, client_certificate, names_of
from gateway.errors import CallbackRefused, Malformed, NotFound, RateLimited, UndeclaredCard
from gateway.metrics import Metrics
from gateway.preset_callbacks import CallbackEvents
from gateway.request_event import REQUEST_EVENT
from gateway.scan import find_cards
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
    transmission_of,
    verified,
)
from vault.callback_endpoint_table import CallbackEndpoint, CallbackEndpointTable
from vault.callbacks import Callbacks, NewCallback, Received
from vault.keys import TokenizeKeys
from vault.pan import Pan
from vault.transmission_table import TransmissionTable

BODY_BYTES_MAX: Final = 512 * 1024
CHALLENGE: Final = "bt_challenge"
PATH: Final = "/callbacks/"
NOTICES_WAIT_SECONDS: Final = 30
UNREADABLE: Final = "unreadable"
ASIDE_AT_ONCE: Final = 2
"""Large posts that are worked on in threads: these take turns with the event loop's payments."""

T = TypeVar("T")

_REFUSALS: Final = {"signature_stale": "stale", "source": "source"}

# What is between the processor and us, or proves it to us alone; not the merchant's.
_NOT_KEPT: Final = re.compile(
    "connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|host|content-length"
    "|expect|authorization|cookie|forwarded|x-forwarded-.*|x-real-ip|via|accept-encoding"
    "|paypal-transmission-sig"  # whoever has it can make another body that fits
)


class SigningCertificates(Protocol):
    """Certificates that processors name in their callbacks, fetched and checked."""

    async def of(self, tenant: str, url: str) -> tuple[bytes, ...] | None: ...


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
    transmissions: TransmissionTable


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
        self._threads = asyncio.Semaphore(ASIDE_AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def post(self, request: web.Request) -> web.Response:
        """`POST /callbacks/{endpoint}` → what the processor expects, once it is on record."""
        endpoint, scheme = await self._endpoint(request)
        raw = await read_whole_body(request, BODY_BYTES_MAX)
        headers = _headers(request)
        try:
            is_signed = await self._proven(endpoint, scheme, headers, raw, request)
        except CallbackRefused as refusal:
            word = _REFUSALS.get(refusal.reason or "", "bad_signature")
            self._metrics.called_back(endpoint.route, word)
            request[REQUEST_EVENT].reason = refusal.reason
            raise
        if scheme.kind == "fetch":
            await self._note(endpoint, raw)
        else:
            kept, at = _kept(headers), self._now()
            post = _Post(scheme, kept, raw, request.remote, at, is_signed=is_signed)
            if not await self._receive(endpoint, post):
                request[REQUEST_EVENT].reason = UNREADABLE
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
        request: web.Request,
    ) -> bool:
        """Return whether a signature proves it. Raises CallbackRefused; any KeysError."""
        posted = Posted(headers, raw, f"{self._public_url}{PATH}{endpoint.id}")
        secrets, at = await self._secrets(endpoint), self._now()
        said = verified(scheme, posted, secrets, at=at)
        if isinstance(said, NeedsCertificate):
            certificates = await self._certificates(endpoint.tenant, said.url)
            said = verified(
                scheme, posted, secrets, at=at, certificates=certificates, roots=self._proofs.roots
            )
        match said:
            case Genuine(is_signed):
                await self._bound(endpoint, scheme, posted)
                return is_signed
            case Forged(reason):
                raise CallbackRefused(reason)
            case NeedsSource(suffixes):
                # A client certificate asks nobody; behind a proxy there is only an address.
                by_name = certifies(names_of(client_certificate(request)), suffixes)
                remote = request.remote or ""
                if not by_name and not await self._proofs.sources.are(remote, suffixes):
                    raise CallbackRefused("source")
                return False
            case NeedsCertificate():
                raise CallbackRefused("certificate_refused")
            case _ as unreachable:
                assert_never(unreachable)

    async def _bound(self, endpoint: CallbackEndpoint, scheme: Scheme, posted: Posted) -> None:
        """Refuse another body for a transmission, where the signature would fit that, too.

        The body has not been looked through for card numbers: hence a keyed digest, from which none
        can be found by trial (PCI DSS 3.5.1.1).
        """
        transmission = transmission_of(scheme, posted)
        if transmission is None:
            return
        tenant, route = endpoint.tenant, endpoint.route
        digest = await self._keys.digest("callback", tenant, posted.body)
        first = self._proofs.transmissions
        if not await first.binds(tenant, route, transmission, digest.value, self._now()):
            raise CallbackRefused("signature_mismatch")

    async def _certificates(self, tenant: str, url: str) -> tuple[bytes, ...]:
        named = self._proofs.certificates
        found = None if named is None else await named.of(tenant, url)
        if found is None:
            raise CallbackRefused("certificate_refused")
        return found

    # --- what it reports --------------------------------------------------------------------

    async def _note(self, endpoint: CallbackEndpoint, raw: bytes) -> None:
        """Keep the id that a notice names: what became of it is asked, and nobody believed."""
        reference = read_notice(raw)
        if find_cards(reference.encode()).hits:  # no processor's id: nothing of it is kept
            raise Malformed("notice")
        if not await self._endpoints.notice(endpoint, reference, self._now()):
            raise RateLimited(NOTICES_WAIT_SECONDS)
        self._metrics.called_back(endpoint.route, "ok")

    async def _receive(self, endpoint: CallbackEndpoint, post: "_Post") -> bool:
        """Put all of its events on record: the processor hears of success when all are.

        False if nothing but that it came can be kept, as a card number would be with it. To refuse
        it would have it repeated for days, and its merchant would never know.
        """
        rules = self._rules[endpoint.route]
        assert rules is not None, "an endpoint is found by them"
        try:
            cleaned = await self._cleaned(endpoint.tenant, rules, post)
        except UndeclaredCard:
            cleaned = None
        if cleaned is None:
            self._metrics.called_back(endpoint.route, UNREADABLE)
            kept = replace(post, headers=(), body=b"")
            event = await self._unkept(endpoint.tenant, post)
            await self._receive_in_order([_new(endpoint, rules, kept, event)])
            return False
        kept = replace(post, headers=cleaned.headers, body=cleaned.body)
        work = partial(_read, rules, post.scheme, cleaned)
        events = await self._aside(endpoint.tenant, kept.body, work)
        news = [
            replace(_new(endpoint, rules, kept, event), is_scrubbed=bool(cleaned.masked))
            for event in events
        ]
        received = await asyncio.gather(
            *map(self._receive_in_order, _by_payment(news)), return_exceptions=True
        )
        for one in received:
            if isinstance(one, BaseException):
                raise one
        return True

    async def _receive_in_order(self, group: Sequence[NewCallback]) -> None:
        """What is about one payment would change under one another."""
        for new in group:
            try:
                received = await self._callbacks.receive(new)
            except Exception:
                self._metrics.called_back(new.route, "error")
                raise
            word = "duplicate" if received is Received.REPEATED else "ok"
            self._metrics.called_back(new.route, word)

    async def _cleaned(self, tenant: str, rules: CallbackEvents, post: "_Post") -> Cleaned:
        """Take card numbers out; of one in an id's place, only if it is a card of the tenant.

        Raises UndeclaredCard when that cannot be done.
        """
        work = partial(scrubbed, rules, post.scheme, post.headers, post.body)
        cleaned = await self._aside(tenant, post.body, work)
        if cleaned.doubtful:
            known = await self._proofs.known_cards(tenant, cleaned.doubtful)
            also = partial(masked_also, cleaned, known)
            cleaned = await self._aside(tenant, post.body, also)
        if cleaned.masked:
            self._metrics.scan_hits("callback", "pan", cleaned.masked)
        return cleaned

    async def _aside(self, tenant: str, body: bytes, work: Callable[[], T]) -> T:
        """Do this work on a body; on a large one beside the event loop, one of a tenant at once."""
        if len(body) <= AT_ONCE_BYTES_MAX:
            return work()
        async with self._turns.setdefault(tenant, asyncio.Lock()), self._threads:
            return await asyncio.to_thread(work)

    async def _unkept(self, tenant: str, post: "_Post") -> CallbackEvent:
        """Name a post of which nothing may be kept.

        By a keyed digest: from a plain one a number could be found again (PCI DSS 3.5.1.1).
        """
        digest = await self._keys.digest("callback", tenant, post.body)
        return replace(unreadable(b""), event_id=f"hmac:{digest.value.hex()}")


@dataclass(frozen=True, slots=True, repr=False)
class _Post:
    """A genuine post: with the headers that are kept of it, and nothing taken out yet."""

    scheme: Scheme
    headers: tuple[tuple[str, str], ...]
    body: bytes
    address: str | None
    at: datetime
    is_signed: bool


def _headers(request: web.Request) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name.decode("ascii", "replace"), value.decode("latin-1"))
        for name, value in request.raw_headers
    )


def _kept(headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(each for each in headers if not _NOT_KEPT.fullmatch(each[0].lower()))


def _read(rules: CallbackEvents, scheme: Scheme, cleaned: Cleaned) -> Sequence[CallbackEvent]:
    try:
        return read_events(rules, scheme, cleaned.headers, cleaned.body)
    except Malformed:
        return (unreadable(cleaned.body),)


def _by_payment(events: Sequence[NewCallback]) -> Sequence[Sequence[NewCallback]]:
    """Put together what may be about one payment, as it stood in the post."""
    groups: list[tuple[set[str], list[NewCallback]]] = []
    for event in events:
        named = {event.action_reference, event.payment_reference, event.merchant_reference}
        references = {reference for reference in named if reference is not None}
        about = [group for group in groups if not references.isdisjoint(group[0])]
        groups = [group for group in groups if group not in about]
        together = [one for _, of_group in about for one in of_group]
        groups.append((references.union(*(known for known, _ in about)), [*together, event]))
    return [of_group for _, of_group in groups]


def _new(
    endpoint: CallbackEndpoint, rules: CallbackEvents, post: _Post, event: CallbackEvent
) -> NewCallback:
    return NewCallback(
        tenant=endpoint.tenant,
        route=endpoint.route,
        scheme=endpoint.scheme,
        endpoint=endpoint.id,
        signature="valid" if post.is_signed else "unsigned",
        event_id=event.event_id,
        event_type=event.type,
        event_at=event.at,
        effect=event.effect,
        action_reference=event.action_reference,
        payment_reference=rules.payment_of(event),
        merchant_reference=event.merchant_reference,
        amount=event.amount,
        currency=event.currency,
        decline_code=event.decline_code,
        is_scrubbed=True,
        headers=post.headers,
        body=event.body,
        source_address=post.address,
    )
