"""Certificates for the hosts of CONNECT tunnels: signed in HashiCorp Vault, kept as contexts.

A host's key pair is made here and never leaves this process's memory: not to HashiCorp Vault,
which gets a signing request, nor to a disk. What never may live here: which hosts there are.

A context serves until a third of its certificate's life is left, or until another issuer is in
force (looked at twice a minute, by a caller who needs a context anyway). Where HashiCorp Vault is
away, what is still valid goes on.
"""

import asyncio
import os
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.listeners import server_context
from vault.authority import Issued
from vault.errors import KeysError

CONTEXTS_MAX: Final = 2048
SIGNINGS_AT_ONCE: Final = 2  # of the eight calls that HashiCorp Vault gets: cards go first
RENEW_BEFORE: Final = 1 / 3  # of a certificate's life
ISSUER_SECONDS: Final = 30.0
FAILED_SECONDS: Final = 1.0
"""After a signing that failed, those who wait for the same host hear it too, without a new try."""

_MEMORY: Final = "/proc/self/fd/{}"


class Signs(Protocol):
    """The part of the authority that is needed here."""

    async def sign(self, host: str, csr: bytes) -> Issued: ...
    async def issuer(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Leaf:
    context: ssl.SSLContext
    issuer: bytes
    renew_at: datetime
    ends_at: datetime


@dataclass(slots=True)
class _Host:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    leaf: _Leaf | None = None
    failed: tuple[float, type[KeysError]] | None = None


class AskedNames:
    """Which host each client named when it began TLS (SNI); the ends of a tunnel compare it."""

    def __init__(self) -> None:
        self._names: WeakKeyDictionary[ssl.SSLObject, str | None] = WeakKeyDictionary()

    def note(self, channel: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        self._names[channel] = name

    def of(self, channel: object) -> str | None:
        return self._names.get(channel) if isinstance(channel, ssl.SSLObject) else None


class LeafCertificates:
    """A TLS context for each host, made when it is first needed, renewed before it ends."""

    def __init__(
        self,
        authority: Signs,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        contexts_max: int = CONTEXTS_MAX,
    ) -> None:
        self.asked = AskedNames()
        self._authority = authority
        self._now = now
        self._monotonic = monotonic
        self._contexts_max = contexts_max
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._signing = asyncio.Semaphore(SIGNINGS_AT_ONCE)
        self._issuer: bytes | None = None
        self._looked_at: float | None = None

    async def start(self) -> None:
        """Find the issuer in force. Raises any KeysError."""
        self._issuer = await self._authority.issuer()
        self._looked_at = self._monotonic()

    async def context_for(self, host: str) -> ssl.SSLContext:
        """Give the context with a certificate for `host`. Raises any KeysError.

        However many ask at the same time, one request is signed.
        """
        await self._look_at_issuer()
        entry = self._entry(host)
        if entry.leaf is None or self._is_due(entry.leaf):
            async with entry.lock:
                if entry.leaf is None or self._is_due(entry.leaf):
                    await self._renew(host, entry)
        assert entry.leaf is not None
        return entry.leaf.context

    def _entry(self, host: str) -> _Host:
        entry = self._hosts.pop(host, None) or _Host()
        self._hosts[host] = entry  # now the last of them
        if len(self._hosts) > self._contexts_max:
            self._hosts.popitem(last=False)
        return entry

    def _is_due(self, leaf: _Leaf) -> bool:
        return self._now() >= leaf.renew_at or leaf.issuer != self._issuer

    async def _look_at_issuer(self) -> None:
        """Notice a rotation. Only one caller asks; others go on with what was known."""
        at = self._monotonic()
        if self._looked_at is not None and at - self._looked_at < ISSUER_SECONDS:
            return
        self._looked_at = at
        try:
            self._issuer = await self._authority.issuer()
        except KeysError:  # known again in a while; what is signed still verifies
            return

    async def _renew(self, host: str, entry: _Host) -> None:
        if entry.failed is not None and self._monotonic() < entry.failed[0]:
            failure: type[KeysError] | None = entry.failed[1]
        else:
            failure = await self._sign(host, entry)
        if failure is None or (entry.leaf is not None and self._now() < entry.leaf.ends_at):
            return
        raise failure

    async def _sign(self, host: str, entry: _Host) -> type[KeysError] | None:
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            async with self._signing:
                issued = await self._authority.sign(host, signing_request(key))
        except KeysError as error:
            entry.failed = (self._monotonic() + FAILED_SECONDS, type(error))
            return type(error)
        context = context_in_memory(issued.chain, key)
        context.sni_callback = self.asked.note
        self._issuer = issued.issuer  # signed later than we looked
        life = issued.not_after - issued.not_before
        entry.failed = None
        entry.leaf = _Leaf(
            context, issued.issuer, issued.not_after - life * RENEW_BEFORE, issued.not_after
        )
        return None


def signing_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Prove that we hold the key; the name goes beside it, not in it."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def context_in_memory(chain: bytes, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    """Make a listener's context of a chain and its key. Raises StartRefused."""
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with _file_in_memory(private + chain) as path:
        return server_context(path, path)


def check_memory_files() -> None:
    """Make a context once, to find out at start whether this machine lets us.

    Without /proc there is no way to hand OpenSSL a key that is on no disk. Raises StartRefused.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    epoch = datetime(2000, 1, 1, tzinfo=UTC)
    nobody = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(epoch)
        .not_valid_after(epoch + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    context_in_memory(nobody.public_bytes(serialization.Encoding.PEM), key)


@contextmanager
def _file_in_memory(content: bytes) -> Iterator[Path]:
    """Give a path to bytes that are on no disk: Python's ssl takes certificates by path only."""
    descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield Path(_MEMORY.format(descriptor))
    finally:
        os.close(descriptor)
