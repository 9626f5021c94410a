"""An embedded deployment: prepares a fresh one, starts both children, says how to reach them.

`env = "test"` only: the unseal key lies beside the data that it protects (PCI DSS 3.6.1.2).
What a production OpenBao must be told is the same list of requests and the same policies.

First start: lock the folder, make keys, certificates and passwords, let OpenBao prepare itself
while PostgreSQL's roles and database are made, mark the folder as ready. Only the mark makes
it a deployment; without it the next start begins again from nothing.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Final, Self

from vault import authority
from vault.embedded import certificates, ports, postgres
from vault.embedded.hold import Hold, has_authority, is_prepared
from vault.embedded.layout import DATABASE_ROLES, LOGINS, OWNER, RUNTIME, Layout
from vault.embedded.openbao import OpenBao, Request, from_answer, from_file
from vault.embedded.postgres import Postgres
from vault.errors import StartRefused
from vault.private_files import write_private

UNSEAL_KEY_BYTES: Final = 32
_SECRET_BYTES: Final = 32
_ROLE_ID_BYTES: Final = 16

_CARD_KEY: Final = {"type": "aes256-gcm96", "derived": True}
_KEYED_HASH: Final = {"type": "hmac", "key_size": 32}
_SIGNING_KEY: Final = {"type": "ed25519"}

KEYS: Final[Mapping[str, Mapping[str, object]]] = {
    "pan": {**_CARD_KEY, "auto_rotate_period": "2160h"},
    "cvc": {**_CARD_KEY, "auto_rotate_period": "1h"},
    "reply": {**_CARD_KEY, "auto_rotate_period": "2160h"},
    "fingerprint": _KEYED_HASH,
    "digest": _KEYED_HASH,
    "ledger": _SIGNING_KEY,
    "edge-sign": _SIGNING_KEY,
}
"""Transit keys. Not exportable, no plaintext backup, no deletion: the engine's defaults."""

_STANDING: Final = {"token_period": "20m"}  # renewed by the process, no longer than it lives
_FOR_ONE_COMMAND: Final = {"token_ttl": "5m", "token_max_ttl": "15m"}
_ROLES: Final[Mapping[str, Mapping[str, str]]] = {
    "tokenize": _STANDING,
    "reveal": _STANDING,
    "credentials": _FOR_ONE_COMMAND,
    "break-glass": _FOR_ONE_COMMAND,
}
_LOOPBACK: Final = ["127.0.0.1/32"]


@dataclass(frozen=True, slots=True)
class Login:
    """The files with which one AppRole login is made."""

    role_id_file: Path
    secret_id_file: Path


@dataclass(frozen=True, slots=True)
class EmbeddedParts:
    """How to reach what an embedded deployment runs. Secrets are named by file, never held."""

    folder: Path
    runtime_dsn: str
    owner_dsn: str
    postgres_binaries: Path
    vault_address: str
    vault_ca_file: Path
    vault_client_cert_file: Path
    vault_client_key_file: Path
    vault_audit_log_file: Path
    logins: Mapping[str, Login]
    tls_ca_file: Path
    tls_cert_file: Path
    tls_key_file: Path
    ports: Mapping[str, int]
    has_authority: bool = True
    """Whether its OpenBao can issue certificates: a folder of panward 0.1's first form cannot."""


@dataclass(frozen=True, slots=True)
class StartOptions:
    """What a start may be told; each has a sensible default."""

    port_base: int | None = None
    listeners: Sequence[str] = ()
    """Names for which a free loopback port is chosen and remembered, beside OpenBao's own."""
    progress: Callable[[str], None] = lambda _step: None
    given_up: Callable[[str], None] = lambda _child: None
    """Called with the name of a child that died too often to be started again."""


_DEFAULT: Final = StartOptions()


class Embedded:
    """The two children of one embedded deployment, from `start` to `stop`."""

    def __init__(self, hold: Hold, openbao: OpenBao, database: Postgres) -> None:
        self._hold = hold
        self.openbao = openbao
        self.postgres = database

    @classmethod
    async def start(cls, folder: Path, *, at: datetime, options: StartOptions = _DEFAULT) -> Self:
        """Start both and wait until they answer; StartRefused says why not."""
        hold = Hold.take(folder)
        try:
            first = not is_prepared(hold.layout)
            if first:
                options.progress("keys and certificates are made")
                await _clear_for_first_start(hold)
                make_secrets(hold.layout)
            embedded = cls(hold, *await _assembled(hold, at, options))
        except BaseException:
            hold.release()
            raise
        try:
            await _bring_up(embedded, hold, options, first=first)
        except BaseException:
            await embedded.stop()
            raise
        return embedded

    @property
    def parts(self) -> EmbeddedParts:
        return parts_of(self._hold.layout.folder)

    @property
    def given_up(self) -> Sequence[str]:
        """The children that died too often and are not started again."""
        children = (self.postgres.child, self.openbao.child)
        return [child.program.name for child in children if child.is_given_up]

    async def stop(self) -> None:
        """End the children, the database first, and let go of the folder. May be repeated."""
        try:
            await self.postgres.stop()
        finally:
            try:
                await self.openbao.stop()
            finally:
                self._hold.release()


def parts_of(folder: Path) -> EmbeddedParts:
    """Find the parts of a deployment, whether or not this process started it."""
    layout = Layout(folder.resolve())
    if not is_prepared(layout):
        raise StartRefused(f"{layout.folder} holds no embedded deployment, or it is still starting")
    run = layout.openbao_run
    chosen = ports.remembered(layout)
    return EmbeddedParts(
        folder=layout.folder,
        runtime_dsn=postgres.dsn(layout, RUNTIME),
        owner_dsn=postgres.dsn(layout, OWNER),
        postgres_binaries=postgres.binaries(),
        vault_address=f"https://127.0.0.1:{chosen[ports.OPENBAO]}",
        vault_ca_file=run / "ca.pem",
        vault_client_cert_file=run / "client.pem",
        vault_client_key_file=run / "client.key",
        vault_audit_log_file=layout.audit_log,
        logins={name: Login(layout.role_id(name), layout.secret_id(name)) for name in LOGINS},
        tls_ca_file=layout.tls / "ca.pem",
        tls_cert_file=layout.tls / "server.pem",
        tls_key_file=layout.tls / "server.key",
        ports=chosen,
        has_authority=has_authority(layout),
    )


def policy(login: str) -> str:
    """Put a login's policy together: its own rules, then those of every login."""
    folder = resources.files("vault.embedded") / "policies"
    return "\n".join((folder / f"{name}.hcl").read_text() for name in (login, "every-login"))


def first_requests(layout: Layout) -> Sequence[Request]:
    """List what a fresh OpenBao is told, in this order."""
    return (
        # First and last: a new key-value engine sets itself up in the background, and refuses
        # everything until it has.
        Request("kv", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}}),
        Request("transit", "sys/mounts/transit", {"type": "transit"}),
        # In clear in the audit log, else no reveal could be matched to its intent there.
        Request(
            "reference",
            "sys/mounts/transit/tune",
            {"audit_non_hmac_request_keys": ["reference"]},
        ),
        Request(
            "correlation",
            "sys/config/auditing/request-headers/x-correlation-id",
            {"hmac": False},
        ),
        *(Request(f"key-{name}", f"transit/keys/{name}", data) for name, data in KEYS.items()),
        # A misspelled key name would otherwise make a key and answer 200.
        Request("no-upsert", "transit/config/keys", {"disable_upsert": True}),
        *_authority_requests(),
        Request("approle", "sys/auth/approle", {"type": "approle"}),
        *(request for login in LOGINS for request in _login_requests(layout, login)),
        Request("kv-cas", "kv/config", {"cas_required": True}),
    )


async def _assembled(hold: Hold, at: datetime, options: StartOptions) -> tuple[OpenBao, Postgres]:
    layout = hold.layout
    certificates.keep(layout, at=at)
    chosen = await ports.choose(layout, options.listeners, options.port_base, keep=hold.keep)
    openbao = OpenBao(
        layout,
        port=chosen[ports.OPENBAO],
        cluster_port=chosen[ports.OPENBAO_CLUSTER],
        given_up=options.given_up,
    )
    as_whom = await postgres.identity(layout)
    return openbao, Postgres(layout, as_whom, given_up=options.given_up)


async def _bring_up(embedded: Embedded, hold: Hold, options: StartOptions, *, first: bool) -> None:
    if first:
        options.progress("OpenBao prepares itself: keys, policies, logins")
        embedded.openbao.start(first_requests(hold.layout))  # it takes longest, and needs no help
        options.progress("PostgreSQL is made: two roles, one database")
        await embedded.postgres.create(_new_passwords(hold.layout))
    else:
        embedded.openbao.start()
    options.progress("PostgreSQL starts")
    await embedded.postgres.start()
    await embedded.postgres.ready()
    options.progress("OpenBao starts")
    if first:
        await _prepared(embedded.openbao, hold.layout, options)
        hold.end_first_start()
    else:
        await embedded.openbao.ready()


async def _prepared(openbao: OpenBao, layout: Layout, options: StartOptions) -> None:
    """Wait for the end of its first start; what goes wrong by chance is tried once more."""
    try:
        await openbao.ready(first=True)
    except StartRefused:
        options.progress("OpenBao did not come to its end: once more")
        await openbao.start_over(first_requests(layout))
        await openbao.ready(first=True)
    openbao.forget_first_requests()


def _authority_requests() -> Sequence[Request]:
    """The authority of the CONNECT listener: a root, and an issuer that it has signed."""
    root, issuer = authority.new_names("panward test")
    life = {"max_lease_ttl": authority.MOUNT_LIFE}
    return (
        *(
            Request(mount, f"sys/mounts/{mount}", {"type": "pki", "config": life})
            for mount in (authority.ROOTS, authority.ISSUERS)
        ),
        Request(
            "ca-root",
            f"{authority.ROOTS}/root/generate/internal",
            {"common_name": root, **authority.ROOT_SETTINGS},
        ),
        Request(
            "ca-csr",
            f"{authority.ISSUERS}/intermediate/generate/internal",
            {"common_name": issuer, **authority.KEY},
        ),
        Request(
            "ca-sign",
            f"{authority.ROOTS}/root/sign-intermediate",
            {
                "common_name": issuer,
                **authority.ISSUER_SETTINGS,
                "csr": from_answer("ca-csr", "csr"),
            },
        ),
        Request(
            "ca-signed",
            f"{authority.ISSUERS}/intermediate/set-signed",
            {"certificate": from_answer("ca-sign", "certificate")},
        ),
        Request(
            "ca-role",
            f"{authority.ISSUERS}/roles/{authority.ROLE}",
            authority.ROLE_SETTINGS,
        ),
    )


def _login_requests(layout: Layout, login: str) -> Sequence[Request]:
    role = f"auth/approle/role/{login}"
    settings = {
        **_ROLES[login],
        "token_policies": [login],
        "token_no_default_policy": True,
        "token_bound_cidrs": _LOOPBACK,
        "secret_id_bound_cidrs": _LOOPBACK,
    }
    role_id = {"role_id": from_file(layout.role_id(login))}
    secret_id = {"secret_id": from_file(layout.secret_id(login))}
    return (
        Request(f"policy-{login}", f"sys/policies/acl/{login}", {"policy": policy(login)}),
        Request(f"role-{login}", role, settings),
        Request(f"role-id-{login}", f"{role}/role-id", role_id),
        Request(f"secret-id-{login}", f"{role}/custom-secret-id", secret_id),
    )


async def _clear_for_first_start(hold: Hold) -> None:
    await postgres.wait_for_predecessor(hold.layout)  # an attempt that was cut off leaves one
    postgres.remove_socket_folder(hold.layout)
    hold.begin_first_start()


def make_secrets(layout: Layout) -> None:
    """Make what OpenBao reads at its first start: unseal key, role ids and secret ids."""
    write_private(layout.unseal_key, secrets.token_bytes(UNSEAL_KEY_BYTES))
    for login in LOGINS:
        write_private(layout.role_id(login), secrets.token_hex(_ROLE_ID_BYTES).encode())
        write_private(layout.secret_id(login), secrets.token_urlsafe(_SECRET_BYTES).encode())


def _new_passwords(layout: Layout) -> Mapping[str, str]:
    passwords = {role: secrets.token_hex(_SECRET_BYTES) for role in DATABASE_ROLES}
    for role, password in passwords.items():
        write_private(layout.password_file(role), f"*:*:*:{role}:{password}\n".encode())
    return passwords
