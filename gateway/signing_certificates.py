"""Certificates that a processor names in its callbacks: fetched, checked, and kept for a while.

1. Only an https address under the processor's own domain is asked, on the ordinary port.
2. What comes is believed only if it leads to a pinned root, is for a name there and valid now.
3. It is kept for a day at most, and never beyond its own end; a refusal for a minute.

Whoever knows an endpoint's address can name any of these URLs, as often as he likes. So many who
wait share one fetch; only so many new URLs are asked in a minute, and of one tenant's fewer; and
what was good once is kept apart, asked again at no cost to that, and makes room for nothing but
what is good, of the same tenant first. What never lives here: the check of a signature, a redirect
that is followed, and a certificate that came with the callback.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.addresses import HTTPS_PORT, NOTHING_PRIVATE, AddressAllow
from gateway.dialing import Lookup, system_lookup
from gateway.errors import UpstreamUnavailable
from gateway.exchange import Failure
from gateway.https_client import HttpsClient, HttpsUrl, Unreachable, UrlRefused
from gateway.signatures_paypal import trusted_key
from gateway.upstream import UpstreamObserver

NAME: Final = "signing_certificates"  # for metrics
DOMAINS: Final = (".paypal.com",)
FETCH_SECONDS: Final = 5.0
BYTES_MAX: Final = 65_536
CHAIN_MAX: Final = 8
KEPT_FOR: Final = timedelta(hours=24)
REFUSED_FOR: Final = timedelta(seconds=60)
AWAY_FOR: Final = timedelta(seconds=5)
GOOD_MAX: Final = 64
OTHERS_MAX: Final = 64
FETCHES_MAX: Final = 30
TENANT_FETCHES_MAX: Final = 6
FETCHES_WITHIN: Final = timedelta(minutes=1)

_OK: Final = 200
_DEFINITE: Final = frozenset({Failure.TOO_LARGE, Failure.REDIRECT})


@dataclass(frozen=True, slots=True, kw_only=True)
class HowToFetch:
    """How the processor's server is reached and known; the defaults are those of the Internet."""

    ca_file: Path | None = None  # instead of the system's authorities
    address_allow: AddressAllow = NOTHING_PRIVATE
    port: int = HTTPS_PORT
    lookup: Lookup = system_lookup
    timeout_seconds: float = FETCH_SECONDS


@dataclass(slots=True)
class _Kept:
    """What is known of one URL, and for how long; `waiting` is how many want to know."""

    tenant: str  # whose callback named it first
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    until: datetime | None = None
    certificates: tuple[bytes, ...] | None = None
    is_away: bool = False


class SigningCertificates:
    """Certificates by the URLs that callbacks name; `roots` are the pinned ones, PEM or DER."""

    def __init__(
        self,
        roots: Sequence[bytes],
        observer: UpstreamObserver,
        *,
        now: Callable[[], datetime],
        how: HowToFetch | None = None,
    ) -> None:
        self._roots = tuple(roots)
        self._observer = observer
        self._now = now
        self._how = how or HowToFetch()
        self._good: OrderedDict[str, _Kept] = OrderedDict()  # once; it may be away by now
        self._others: OrderedDict[str, _Kept] = OrderedDict()
        self._fetches: deque[tuple[datetime, str]] = deque()  # of others, and for which tenant

    async def of(self, tenant: str, url: str) -> tuple[bytes, ...] | None:
        """Return a chain in DER, its leaf first; None for one that is not to be believed.

        `tenant` is whose callback names it. Raises UpstreamUnavailable when it cannot be known now,
        or too much has been asked: the processor posts again.
        """
        address = _address(url)
        if address is None:
            return None
        async with self._entry(tenant, url) as kept, kept.lock:
            if kept.until is None or self._now() >= kept.until:
                if url not in self._good:
                    self._count(tenant)
                await self._fetch(address, kept)
                self._place(url, kept)
            if kept.is_away:
                raise UpstreamUnavailable
            return kept.certificates

    @asynccontextmanager
    async def _entry(self, tenant: str, url: str) -> AsyncIterator[_Kept]:
        """Hold on to what is known of a URL. Raises UpstreamUnavailable for one too many."""
        among = self._good if url in self._good else self._others
        kept = among.get(url)
        if kept is None:
            self._check(tenant)  # what is not asked takes no place either
            kept = among[url] = _Kept(tenant)
        among.move_to_end(url)
        kept.waiting += 1
        try:
            yield kept
        finally:
            kept.waiting -= 1
            self._make_room()

    def _check(self, tenant: str) -> None:
        """Raise UpstreamUnavailable if too much has been asked, for all or for this tenant."""
        since = self._now() - FETCHES_WITHIN
        while self._fetches and self._fetches[0][0] <= since:
            self._fetches.popleft()
        of_tenant = sum(1 for _, whose in self._fetches if whose == tenant)
        if len(self._fetches) >= FETCHES_MAX or of_tenant >= TENANT_FETCHES_MAX:
            raise UpstreamUnavailable

    def _count(self, tenant: str) -> None:
        """Allow one more question. Raises UpstreamUnavailable if that were too many."""
        self._check(tenant)
        self._fetches.append((self._now(), tenant))

    def _place(self, url: str, kept: _Kept) -> None:
        """Keep what is good among the good, and no longer what turned out not to be."""
        if kept.certificates is not None:
            self._others.pop(url, None)
            self._good[url] = kept
        elif not kept.is_away and self._good.pop(url, None) is not None:
            self._others[url] = kept

    def _make_room(self) -> None:
        """What nobody waits for goes first; of good ones, the tenant's that named most of them."""
        if len(self._others) > OTHERS_MAX:
            idle = next((url for url, one in self._others.items() if not one.waiting), None)
            if idle is not None:
                del self._others[idle]
        if len(self._good) > GOOD_MAX:
            ((most, _),) = Counter(one.tenant for one in self._good.values()).most_common(1)
            del self._good[next(url for url, one in self._good.items() if one.tenant == most)]

    async def _fetch(self, address: HttpsUrl, kept: _Kept) -> None:
        """Ask, and keep the answer."""
        failure, body = await self._body(address)
        at = self._now()
        kept.is_away = failure is not None and failure not in _DEFINITE
        kept.certificates, kept.until = None, at + (AWAY_FOR if kept.is_away else REFUSED_FOR)
        chain = _chain(body)
        encoded = tuple(each.public_bytes(Encoding.DER) for each in chain)
        if trusted_key(encoded, self._roots, at) is not None:
            ends = (each.not_valid_after_utc for each in chain)  # what has expired was not needed
            kept.certificates = encoded
            kept.until = min(at + KEPT_FOR, *(end for end in ends if end > at))

    async def _body(self, address: HttpsUrl) -> tuple[Failure | None, bytes]:
        """Fetch, once; of another status than 200 nothing is read."""
        how = self._how
        client = HttpsClient(
            f"https://{address.host}:{how.port}",
            self._observer,
            name=NAME,
            ca_file=how.ca_file,
            address_allow=how.address_allow,
            timeout_seconds=how.timeout_seconds,
            reply_bytes_max=BYTES_MAX,
            lookup=how.lookup,
        )
        try:
            fetched = await client.get(address.path)
        except Unreachable as error:
            return error.failure, b""
        finally:
            await client.close()
        if fetched.status >= 500:  # noqa: PLR2004 - RFC 9110 15.6
            return Failure.PROTOCOL_ERROR, b""
        return None, fetched.body if fetched.status == _OK else b""


def _address(url: str) -> HttpsUrl | None:
    """Read an address, if it is one of the processor's own, with a path."""
    try:
        address = HttpsUrl.parse(url)
    except UrlRefused:
        return None
    is_own = address.host.endswith(DOMAINS) and address.port == HTTPS_PORT
    return address if is_own and address.path else None


def _chain(body: bytes) -> list[x509.Certificate]:
    """Read certificates in PEM; none at all if one of them is broken, or they are too many."""
    try:
        chain = x509.load_pem_x509_certificates(body)
    except ValueError:
        return []
    return chain if len(chain) <= CHAIN_MAX else []
