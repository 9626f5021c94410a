"""Callbacks that no shared secret proves: one body for a transmission, and whose machine it is.

The real handlers behind a real listener, on a real database and OpenBao.
"""

import asyncio
import base64
import ssl
import threading
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from gateway import callbacks
from gateway import preset as presets
from gateway.applications import callback_application
from gateway.callback_scrub import AT_ONCE_BYTES_MAX, Cleaned, scrubbed
from gateway.callback_sources import CallbackSources
from gateway.callbacks import CallbackHandlers, Proofs
from gateway.connections import Limits
from gateway.https_client import Unwatched
from gateway.listeners import server_context, start_listener
from gateway.metrics import Metrics
from gateway.middleware import Gate, Net
from gateway.preset_callbacks import CallbackEvents
from gateway.request_event import EventLog
from gateway.signatures import Scheme
from gateway.signing_certificates import HowToFetch, SigningCertificates
from tests.databases import Database
from tests.gateway.raw_servers import LOOPBACK, at, context_of, once, reply, serving
from tests.gateway.test_signing_certificates import HOST, URL, Issuer
from tests.gateway.tls_authority import DAY, NOW
from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.inboxes import Inbox, opened_inbox
from tests.vault.keyrings import tokenize_keys
from tests.vault.places import place_of_openbao
from tests.vault.rows import new_tenant
from tests.vault.stores import migrated, opened
from vault.callback_endpoint_table import CallbackEndpointTable
from vault.embedded.bootstrap import EmbeddedParts
from vault.known_cards import KnownCards
from vault.tenant_table import Tenant, TenantTable
from vault.transmission_table import TransmissionTable

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-52")]

WEBHOOK = "3RN13029J36659323"
BODY = b'{"id":"WH-1","event_type":"PAYMENT.CAPTURE.COMPLETED","resource":{"id":"C-1"}}'
ORDER = b"""<?xml version="1.0"?><paymentService><notify><orderStatusEvent orderCode="o-1">
<journal journalType="AUTHORISED"/></orderStatusEvent></notify></paymentService>"""
Headers = Mapping[str, str]


@dataclass
class Clock:
    """Tells the time that a test sets."""

    at: datetime = NOW

    def __call__(self) -> datetime:
        return self.at


@dataclass
class Dns:
    """Gives an address the name that a test sets."""

    names: Sequence[str] = ()
    asked: list[str] = field(default_factory=list)

    async def reverse(self, address: str) -> Sequence[str]:
        self.asked.append(address)
        return self.names

    async def forward(self, name: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]


@dataclass
class Place:
    """Where two processors post to, and what stands behind it."""

    inbox: Inbox
    tenant: str
    clock: Clock
    dns: Dns
    url: str
    paths: Mapping[str, str]
    authority: trustme.CA
    clients: trustme.CA
    key: rsa.RSAPrivateKey

    async def post(
        self,
        route: str,
        body: bytes,
        headers: Headers,
        certificate: trustme.LeafCert | None = None,
    ) -> tuple[int, str | None]:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if certificate is not None:
            certificate.configure_cert(context)
        connector = aiohttp.TCPConnector(ssl=context)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(self.url + self.paths[route], data=body, headers=headers) as answer,
        ):
            problem = await answer.json() if answer.status >= 400 else {}
            return answer.status, problem.get("reason")

    def signed(self, body: bytes, *, id_: str = "T-1", sent: datetime | None = None) -> Headers:
        time = (sent or self.clock.at).strftime("%Y-%m-%dT%H:%M:%SZ")
        message = f"{id_}|{time}|{WEBHOOK}|{zlib.crc32(body)}".encode()
        return {
            "Content-Type": "application/json",
            "PAYPAL-TRANSMISSION-ID": id_,
            "PAYPAL-TRANSMISSION-TIME": time,
            "PAYPAL-TRANSMISSION-SIG": base64.b64encode(
                self.key.sign(message, padding.PKCS1v15(), SHA256())
            ).decode(),
            "PAYPAL-CERT-URL": URL,
            "PAYPAL-AUTH-ALGO": "SHA256withRSA",
        }

    async def received(self) -> int:
        count = await self.inbox.court.store.value("SELECT count(*) FROM callback")
        assert isinstance(count, int)
        return count


def of_checksum(body: bytes, wanted: int) -> bytes:
    """Make another body that has this CRC-32, by four bytes at its end."""
    table = [_crc_of(at) for at in range(256)]
    high = {value >> 24: at for at, value in enumerate(table)}
    places: list[int] = []
    state = wanted ^ 0xFFFFFFFF
    for _ in range(4):
        places.append(high[state >> 24])
        state = ((state ^ table[places[-1]]) << 8) & 0xFFFFFFFF
    state, end = zlib.crc32(body) ^ 0xFFFFFFFF, bytearray()
    for place in reversed(places):
        end.append((state ^ place) & 0xFF)
        state = (state >> 8) ^ table[place]
    return body + bytes(end)


def _crc_of(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (0xEDB88320 if value & 1 else 0)
    return value


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
async def place(
    database: Database, embedded: EmbeddedParts, cluster: FakeCluster, tmp_path: Path
) -> AsyncIterator[Place]:
    async with (
        opened(await migrated(database)) as store,
        opened_inbox(store, cluster, tmp_path / "spool") as inbox,
        opened_place(inbox, embedded, tmp_path) as made,
    ):
        yield made


@asynccontextmanager
async def opened_place(inbox: Inbox, embedded: EmbeddedParts, folder: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        database, clock, dns = inbox.court.store.database, Clock(), Dns()
        tenant, issuer, key = new_tenant(), Issuer(), rsa.generate_private_key(65_537, 2048)
        assert await TenantTable(database).add(Tenant(tenant, f"shop-{tenant}", NOW))
        table = CallbackEndpointTable(database)
        paths: dict[str, str] = {}
        for route in ("paypal", "worldpay_wpg"):
            endpoint = await table.add_endpoint(tenant, route, route, at=NOW)
            assert endpoint is not None
            paths[route] = f"/callbacks/{endpoint.id}"
        access = place_of_openbao(embedded)
        async with access.transit("credentials") as transit:
            await transit.patch_secret(f"callback/{tenant}/paypal", {"webhook_id": WEBHOOK})
        keys = tokenize_keys(await stack.enter_async_context(access.transit("tokenize")))
        stack.push_async_callback(keys.close)
        chain = issuer.chain(until=NOW + 9 * DAY, key=key)
        how = await stack.enter_async_context(_paypal(chain, folder))
        handlers = CallbackHandlers(
            table,
            inbox.callbacks,
            keys,
            {route: presets.load(route).callbacks for route in paths},
            Proofs(
                SigningCertificates([issuer.pinned], Unwatched(), now=clock, how=how),
                (issuer.pinned,),
                CallbackSources(lambda: 0.0, reverse=dns.reverse, forward=dns.forward),
                KnownCards(database, keys),
                TransmissionTable(database),
            ),
            public_url="https://pay.example",
            metrics=Metrics(processor_routes=paths),
            now=clock,
        )
        authority, clients = trustme.CA(), trustme.CA()
        url = await stack.enter_async_context(_listening(handlers, authority, clients, folder))
        yield Place(inbox, tenant, clock, dns, url, paths, authority, clients, key)


@asynccontextmanager
async def _paypal(chain: bytes, folder: Path) -> AsyncIterator[HowToFetch]:
    web = trustme.CA()
    web.cert_pem.write_to_path(str(folder / "web.pem"))
    async with serving(once(reply(chain)), context_of(web.issue_cert(HOST))) as server:
        yield HowToFetch(
            ca_file=folder / "web.pem",
            address_allow=LOOPBACK,
            port=server.port,
            lookup=at("127.0.0.1"),
        )


@asynccontextmanager
async def _listening(
    handlers: CallbackHandlers, authority: trustme.CA, clients: trustme.CA, folder: Path
) -> AsyncIterator[str]:
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(str(folder / "key.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(folder / "chain.pem"))
    clients.cert_pem.write_to_path(str(folder / "clients.pem"))
    context = server_context(
        folder / "chain.pem", folder / "key.pem", client_ca=folder / "clients.pem"
    )
    metrics = Metrics()
    net = Net(
        "callbacks",
        Gate(frozenset({"127.0.0.1"}), ()),
        log=EventLog(BytesIO(), now=lambda: NOW, watch=metrics),
        metrics=metrics,
        chance=lambda: 0.5,
    )
    limits = Limits(keepalive_seconds=2.0, shutdown_seconds=1.0)
    app = callback_application(handlers)
    listener = await start_listener(app, context, ("127.0.0.1", 0), net=net, limits=limits)
    try:
        yield f"https://127.0.0.1:{listener.port}"
    finally:
        await listener.close()


# --- PayPal: a checksum is no digest --------------------------------------------------------


async def test_a_body_that_was_made_to_fit_is_refused(place: Place) -> None:
    headers = place.signed(BODY)
    forged = of_checksum(BODY.replace(b"WH-1", b"WH-2"), zlib.crc32(BODY))
    assert zlib.crc32(forged) == zlib.crc32(BODY)
    assert await place.post("paypal", BODY, headers) == (200, None)
    assert await place.post("paypal", forged, headers) == (401, "signature_mismatch")
    assert await place.post("paypal", BODY, headers) == (200, None)
    assert await place.received() == 1


async def test_a_repeat_with_another_transmission_binds_that_one_too(place: Place) -> None:
    again = place.signed(BODY, id_="T-2")
    assert await place.post("paypal", BODY, place.signed(BODY)) == (200, None)
    assert await place.post("paypal", BODY, again) == (200, None)
    forged = of_checksum(BODY.replace(b"WH-1", b"WH-3"), zlib.crc32(BODY))
    assert await place.post("paypal", forged, again) == (401, "signature_mismatch")
    assert await place.received() == 1


async def test_a_repeat_that_is_written_and_signed_anew_is_a_repeat(place: Place) -> None:
    anew = BODY.replace(b",", b", ")
    assert await place.post("paypal", BODY, place.signed(BODY)) == (200, None)
    assert await place.post("paypal", anew, place.signed(anew)) == (200, None)
    assert await place.received() == 1


async def test_a_post_is_taken_for_four_days(place: Place) -> None:
    headers = place.signed(BODY)
    place.clock.at = place.clock.at.replace(microsecond=0) + timedelta(days=4)
    assert await place.post("paypal", BODY, headers) == (200, None)
    place.clock.at += timedelta(seconds=1)
    assert await place.post("paypal", BODY, headers) == (401, "signature_stale")


async def test_what_signed_it_is_not_kept(place: Place) -> None:
    assert await place.post("paypal", BODY, place.signed(BODY)) == (200, None)
    kept = await place.inbox.court.store.value("SELECT headers FROM callback")
    assert isinstance(kept, str)
    assert "PAYPAL-TRANSMISSION-ID" in kept
    assert "TRANSMISSION-SIG" not in kept.upper()


# --- Worldpay WPG: a client certificate, or an address --------------------------------------

XML: Headers = {"Content-Type": "text/xml"}


async def test_a_client_certificate_of_the_processor_is_believed(place: Place) -> None:
    certificate = place.clients.issue_cert("notify.worldpay.com")
    assert await place.post("worldpay_wpg", ORDER, XML, certificate) == (200, None)
    assert place.dns.asked == []  # nobody had to be asked
    assert await place.inbox.court.store.value("SELECT signature FROM callback") == "unsigned"


@pytest.mark.parametrize("name", ["worldpay.com.evil.example", "evilworldpay.com", "shop.example"])
async def test_a_client_certificate_of_another_is_none(place: Place, name: str) -> None:
    certificate = place.clients.issue_cert(name)
    assert await place.post("worldpay_wpg", ORDER, XML, certificate) == (401, "source")
    assert await place.received() == 0


async def test_a_client_certificate_of_another_authority_ends_the_connection(place: Place) -> None:
    certificate = trustme.CA().issue_cert("notify.worldpay.com")
    with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
        await place.post("worldpay_wpg", ORDER, XML, certificate)
    assert await place.received() == 0


async def test_without_a_certificate_the_address_decides(place: Place) -> None:
    assert await place.post("worldpay_wpg", ORDER, XML) == (401, "source")
    assert place.dns.asked == ["127.0.0.1"]


async def test_an_address_of_the_processor_needs_no_certificate(place: Place) -> None:
    place.dns.names = ["mms.worldpay.com"]
    assert await place.post("worldpay_wpg", ORDER, XML) == (200, None)


async def test_a_client_certificate_proves_nothing_of_another_processor(place: Place) -> None:
    certificate = place.clients.issue_cert("notify.worldpay.com")
    headers = {**place.signed(BODY), "PAYPAL-TRANSMISSION-ID": "T-9"}
    assert await place.post("paypal", BODY, headers, certificate) == (401, "signature_mismatch")


# --- large posts: a second of work each, beside payments ------------------------------------


async def test_large_posts_of_one_merchant_take_turns(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, most = 0, 0

    def watched(
        rules: CallbackEvents, scheme: Scheme, headers: Sequence[tuple[str, str]], body: bytes
    ) -> Cleaned:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        both_there.wait(0.2)  # a second one would come within that
        try:
            return scrubbed(rules, scheme, headers, body)
        finally:
            under_way -= 1

    both_there = threading.Event()
    monkeypatch.setattr(callbacks, "scrubbed", watched)
    place.dns.names = ["mms.worldpay.com"]
    large = (ORDER + b" " * AT_ONCE_BYTES_MAX + b"%d" % number for number in range(4))
    posts = [place.post("worldpay_wpg", each, XML) for each in large]
    assert await asyncio.gather(*posts) == [(200, None)] * 4
    assert (await place.received(), most) == (4, 1)
