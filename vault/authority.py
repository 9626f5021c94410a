"""The certificate authority in the PKI engine of HashiCorp Vault: issues, shows, is renewed.

Two engines. `pki-root` holds roots, which clients are told to trust and which sign issuers and
nothing else. `pki` holds issuers (intermediates), one of them in force, which sign the gateway's
certificates. All their private keys were made in there and never leave. What never may live
here: the private key of a certificate that is issued, and who asks for one.

What an authority has issued with is public: the engine shows it to anybody, so `public_authority`
reads it without a login. Signing takes the `reveal` login, rotation the break-glass one.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from ipaddress import ip_address
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from vault.errors import KeysError, KeysMisconfigured
from vault.observer import Silent
from vault.transit import VaultAccess
from vault.transit_answers import Answer, data_of
from vault.transit_items import Request, Unprintable, path_of
from vault.transit_nodes import Nodes, Pins

ROOTS: Final = "pki-root"
ISSUERS: Final = "pki"
ROLE: Final = "gateway"

KEY: Final = {"key_type": "ec", "key_bits": 256}
ROOT_SETTINGS: Final = {**KEY, "ttl": "87600h", "max_path_length": 1}
ISSUER_SETTINGS: Final = {"ttl": "43800h", "max_path_length": 0}
MOUNT_LIFE: Final = "87600h"
ROLE_SETTINGS: Final = {
    **KEY,
    # Which hosts are asked for is the configuration's business: those of its routes.
    "allow_any_name": True,
    "allow_ip_sans": True,
    "enforce_hostnames": True,
    "allow_wildcard_certificates": False,
    # The names come with the request, none from what the caller could put into its CSR.
    "use_csr_common_name": False,
    "use_csr_sans": False,
    "require_cn": False,
    "server_flag": True,
    "client_flag": False,
    "key_usage": ["DigitalSignature"],
    "ttl": "72h",
    "max_ttl": "72h",
    "not_before_duration": "5m",  # for clients whose clock is behind
    "no_store": True,
}
"""The role under which leaves are signed: for servers, three days, exactly the name asked for."""

Ask = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate for one host, with what it needs to be verified but for the root; PEM."""

    chain: bytes
    issuer: bytes
    """The certificate in force when this one was signed."""
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Root:
    """A root, and whether what is signed now is verified with it."""

    certificate: bytes
    name: str
    sha256: str
    not_after: datetime
    in_force: bool


class NothingPrepared(KeysError):
    """There is no new authority to activate: `panward ca rotate` makes one."""

    code = "ca_not_prepared"
    retryable = False


class AlreadyPrepared(KeysError):
    """A new authority is waiting: `panward ca rotate --activate` puts it in force."""

    code = "ca_already_prepared"
    retryable = False


class Authority:
    """The verbs of the authority, over whatever carries a request to HashiCorp Vault."""

    def __init__(self, ask: Ask) -> None:
        """`ask` is `Transit.ask` of a login that may do what is asked."""
        self._ask = ask

    async def sign(self, host: str, csr: bytes) -> Issued:
        """Have a certificate signed for one DNS name or IP address. Raises any KeysError."""
        body = {"csr": csr.decode("ascii"), _kind_of_name(host): host}
        path = path_of(ISSUERS, "sign", ROLE)
        signed = data_of(await self._ask(_post("ca_sign", path, body)), _Signed)
        leaf = _certificate(signed.certificate)
        if _names(leaf) != [host]:  # a role that was changed
            raise KeysMisconfigured
        between = [one for one in map(_certificate, signed.ca_chain) if one.subject != one.issuer]
        return Issued(
            chain=b"".join(map(_pem, (leaf, *between))),
            issuer=_pem(_certificate(signed.issuing_ca)),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
        )

    async def issuer(self) -> bytes:
        """Read the certificate that signs now. Raises any KeysError."""
        return _pem((await self._in_force()).certificate)

    async def roots(self, *, at: datetime) -> list[Root]:
        """List the roots that have not expired, the newest first. Raises any KeysError.

        Where the root is held elsewhere, it was put beside the issuers for this.
        """
        in_force = await self._in_force()
        found = [*await self._held(ROOTS), *await self._held(ISSUERS)]
        roots = [one.certificate for one in found if _is_root(one.certificate)]
        valid = [one for one in roots if at <= one.not_valid_after_utc]
        valid.sort(key=lambda one: one.not_valid_before_utc, reverse=True)
        return [_root(one, in_force.certificate) for one in valid]

    # --- rotation: prepare, activate, retire ------------------------------------------------

    async def prepare(self, name: str) -> None:
        """Make a new root and a new issuer beside those in force, which go on signing.

        From now on `roots` gives both, and clients can be told to trust both. Raises
        AlreadyPrepared; any KeysError.
        """
        if await self._waiting() is not None:
            raise AlreadyPrepared
        root_name, issuer_name = new_names(name)
        path = path_of(ROOTS, "issuers", "generate", "root", "internal")
        answer = await self._act("ca_root", path, {"common_name": root_name, **ROOT_SETTINGS})
        root = data_of(answer, _NewRoot)
        path = path_of(ISSUERS, "issuers", "generate", "intermediate", "internal")
        answer = await self._act("ca_csr", path, {"common_name": issuer_name, **KEY})
        wanted = {"common_name": issuer_name, **ISSUER_SETTINGS, "csr": data_of(answer, _Csr).csr}
        path = path_of(ROOTS, "issuer", root.issuer_id, "sign-intermediate")
        signed = data_of(await self._act("ca_sign_issuer", path, wanted), _SignedIssuer)
        path = path_of(ISSUERS, "issuers", "import", "cert")
        data_of(await self._act("ca_import", path, {"pem_bundle": signed.certificate}), _Imported)

    async def activate(self) -> None:
        """Let the new issuer sign from now on. Raises NothingPrepared; any KeysError."""
        waiting = await self._waiting()
        if waiting is None:
            raise NothingPrepared
        path = path_of(ISSUERS, "config", "issuers")
        answer = await self._act("ca_activate", path, {"default": waiting.id})
        data_of(answer, msgspec.Raw)

    async def retire(self) -> int:
        """Destroy the keys of what was in force before; give how many. Raises any KeysError."""
        issuer = await self._in_force()
        born = issuer.certificate.not_valid_before_utc
        older = [
            (mount, one.id)
            for mount in (ISSUERS, ROOTS)
            for one in await self._held(mount)
            if one.certificate.not_valid_before_utc <= born
            and one.id != issuer.id
            and not _issued(one.certificate, issuer.certificate)
        ]
        for mount, identity in older:
            path = path_of(mount, "issuer", identity)
            key = data_of(await self._ask(Request("ca_read", "GET", path)), _HeldKey).key_id
            data_of(await self._ask(Request("ca_retire", "DELETE", path)), msgspec.Raw)
            if key:
                path = path_of(mount, "key", key)
                data_of(await self._ask(Request("ca_retire", "DELETE", path)), msgspec.Raw)
        return len(older)

    async def _waiting(self) -> "_Held | None":
        """The issuer that was made after the one in force, if there is one."""
        issuer = await self._in_force()
        born = issuer.certificate.not_valid_before_utc
        newer = [
            one
            for one in await self._held(ISSUERS)
            if one.certificate.not_valid_before_utc >= born
            and one.id != issuer.id
            and not _is_root(one.certificate)
        ]
        return newer[0] if newer else None

    # --- reading ----------------------------------------------------------------------------

    async def _in_force(self) -> "_Held":
        return await self._read(ISSUERS, "default")

    async def _read(self, mount: str, reference: str) -> "_Held":
        path = path_of(mount, "issuer", reference, "json")
        held = data_of(await self._ask(Request("ca_read", "GET", path)), _Shown)
        return _Held(held.issuer_id, _certificate(held.certificate))

    async def _held(self, mount: str) -> Sequence["_Held"]:
        """Read all that an engine holds; nothing where there is no such engine."""
        path = f"{path_of(mount, 'issuers')}?list=true"
        answer = await self._ask(Request("ca_list", "GET", path))
        try:
            listed = data_of(answer, _Listed).keys
        except KeysMisconfigured:
            listed = []
        return [await self._read(mount, reference) for reference in listed]

    async def _act(self, operation: str, path: str, body: object) -> Answer:
        """Ask for what must not be done twice."""
        return await self._ask(_post(operation, path, body, repeatable=False))


@asynccontextmanager
async def public_authority(access: VaultAccess) -> AsyncIterator[Authority]:
    """Give an authority that can be looked at and no more: nobody logs in."""
    pins = Pins(access.ca_file, access.client_cert_file, access.client_key_file)
    nodes = Nodes(access.addresses, pins, observer=Silent(), threads=1, chance=lambda: 0.0)

    async def ask(request: Request) -> Answer:
        return await nodes.send(request, None)

    try:
        yield Authority(ask)
    finally:
        nodes.close()


def new_names(name: str) -> tuple[str, str]:
    """Name a root and its issuer so that no other pair is named like them: chains go by name."""
    mark = secrets.token_hex(4)
    return f"{name} root {mark}", f"{name} issuer {mark}"


# --- certificates ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Held:
    id: str
    certificate: x509.Certificate


def _kind_of_name(host: str) -> str:
    try:
        ip_address(host)
    except ValueError:
        return "alt_names"
    return "ip_sans"


def _certificate(text: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(text.encode())
    except ValueError:
        pass
    raise KeysMisconfigured


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found.value]


def _is_root(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _root(root: x509.Certificate, issuer: x509.Certificate) -> Root:
    names = root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Root(
        certificate=_pem(root),
        name=str(names[0].value) if names else root.subject.rfc4514_string(),
        sha256=sha256(root.public_bytes(serialization.Encoding.DER)).hexdigest(),
        not_after=root.not_valid_after_utc,
        in_force=_issued(root, issuer),
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


# --- their shapes in JSON -------------------------------------------------------------------


def _post(operation: str, path: str, body: object, *, repeatable: bool = True) -> Request:
    return Request(operation, "POST", path, msgspec.json.encode(body), repeatable=repeatable)


class _Signed(Unprintable):
    """`data` of a signed leaf."""

    certificate: str
    issuing_ca: str
    ca_chain: list[str]


class _Shown(Unprintable):
    """`data` of an issuer as the engine shows it to anybody."""

    issuer_id: str
    certificate: str


class _Listed(Unprintable):
    """`data` of the list of issuers."""

    keys: list[str]


class _NewRoot(Unprintable):
    """`data` of a root that was made."""

    issuer_id: str


class _Csr(Unprintable):
    """`data` of an issuer's key that was made."""

    csr: str


class _SignedIssuer(Unprintable):
    """`data` of an issuer's certificate."""

    certificate: str


class _Imported(Unprintable):
    """`data` of what was taken in."""

    imported_issuers: list[str]


class _HeldKey(Unprintable):
    """`data` of an issuer as its administrator sees it."""

    key_id: str
