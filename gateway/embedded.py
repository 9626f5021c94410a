"""`--embedded DIR`: from a folder to an ordinary configuration file, and its first tenant.

The children are `vault/embedded`; here is what the gateway adds: `panward.toml`, a simulated
processor to send cards to, a tenant with keys, an auditor's key, and `credentials.json`. After
that everything takes the ordinary `--config` path.
"""

import asyncio
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from gateway.config import Config, load_config, vault_access
from gateway.sandbox.accounts import credentials_of
from gateway.sandbox.processors import transaction_key
from vault.api_keys import NewApiKey, Scope, new_api_key, parse_api_key, route_scope
from vault.auditor_table import AuditorKeyRow, AuditorTable
from vault.db import Database, migrate
from vault.embedded.bootstrap import Embedded, EmbeddedParts, StartOptions
from vault.embedded.children import Child, Program
from vault.embedded.layout import RUNTIME
from vault.errors import CustodyError, KeysUnavailable, StartRefused
from vault.observer import Silent
from vault.private_files import write_private
from vault.tenant_table import ApiKeyRow, Tenant, TenantTable
from vault.tokens import new_id
from vault.transit import Transit, VaultAccess

LOGIN_NAMES: Final = {
    "tokenize": "tokenize",
    "reveal": "reveal",
    "credentials": "credentials",
    "break_glass": "break-glass",
}
"""The logins as the configuration and as HashiCorp Vault names them."""
LISTENERS: Final = (
    *("public", "private", "ops", "connect", "inbound"),
    *("sandbox", "shop", "old_shop"),
)
OWN_INBOUND: Final = "inbound.toml"
"""`[[inbound]]` routes of one's own, beside `panward.toml`; the demo's is left out then."""
TRIAL_ORIGINS: Final = ("http://localhost:8000", "http://127.0.0.1:8000")
"""Where `python -m http.server` shows a page that one tries."""
ORIGIN: Final = "panward.test/embedded"
TENANT: Final = "demo-shop"
AUDITOR: Final = "auditor"
FIRST_ACCOUNT: Final = "acct_1"
ROUTES: Final[Mapping[str, tuple[str, ...]]] = {
    "stripe": ("api.stripe.com", "files.stripe.com"),
    "adyen": ("checkout-test.adyen.com", "pal-test.adyen.com"),
    "checkout_com": ("api.sandbox.checkout.com",),
    "braintree": ("api.sandbox.braintreegateway.com", "payments.sandbox.braintree-api.com"),
    "cybersource": ("apitest.cybersource.com",),
    "authorize_net": ("apitest.authorize.net",),
}
"""The simulated processors, and the names by which an SDK asks for them through the proxy."""
RESERVE_BYTES: Final = 16 << 20  # a trial on a small disk is still a trial
PUBLIC_LIMITS: Final = (
    "\nconnections_per_address_max = 256"
    "  # a browser needs few, a processor that calls back more; raise behind a proxy"
)
SANDBOX_READY_SECONDS: Final = 20.0
TENANT_CHARACTERS: Final = 16
CALLBACK_SECRETS_MAX: Final = 16  # of a route: each callback is tried with all of them


@dataclass(frozen=True, slots=True)
class EmbeddedDeployment:
    """A running embedded deployment, without its gateway."""

    children: Embedded
    parts: EmbeddedParts
    sandbox: "Sandbox"
    config: Config


class Credentials(msgspec.Struct, frozen=True):
    """`credentials.json`: all that it takes to try panward. Null: not in this folder."""

    public_url: str
    private_url: str
    proxy_url: str | None
    ops_url: str
    ca_file: str
    tenant: str
    publishable_key: str
    secret_key: str
    auditor_key: str | None
    inbound_url: str | None = None

    def __repr__(self) -> str:
        return "Credentials"


class SandboxMemory(Enum):
    """What the simulated processor keeps of the numbers it gets; more than nothing is for tests."""

    NOTHING = "nothing"
    IN_MEMORY = "in_memory"
    ON_DISK = "on_disk"  # their hashes, and what a real processor does not forget when it is killed


class Sandbox:
    """The simulated processor, as a child process of its own."""

    def __init__(
        self, parts: EmbeddedParts, *, memory: SandboxMemory, given_up: Callable[[str], None]
    ) -> None:
        self.port = parts.ports["sandbox"]
        self.control_socket = control_socket(parts)
        self.api_key_file = parts.folder / "secrets" / "sandbox.api-key"
        command = [
            *(sys.executable, "-m", "gateway.sandbox", "--port", str(self.port)),
            *("--cert", str(parts.tls_cert_file), "--key", str(parts.tls_key_file)),
            *("--api-key-file", str(self.api_key_file)),
            *("--control-socket", str(self.control_socket)),
        ]
        if memory is not SandboxMemory.NOTHING:
            command.append("--unsafe-remember-numbers")
        if memory is SandboxMemory.ON_DISK:
            command += [
                *("--arrivals", str(parts.folder / "sandbox-arrivals.jsonl")),
                *("--state", str(parts.folder / "sandbox-state.jsonl")),
            ]
        self._child = Child(
            Program(
                name="sandbox processor",
                command=tuple(command),
                log_file=parts.folder / "log" / "sandbox.log",
                on_parent_death=signal.SIGKILL,
                stop=((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)),
            ),
            given_up=given_up,
        )

    async def start(self) -> None:
        """Start it and wait until it answers. Raises StartRefused."""
        if not self.api_key_file.exists():
            write_private(self.api_key_file, f"sk_test_{secrets.token_hex(24)}\n".encode())
        self.control_socket.unlink(missing_ok=True)
        self._child.start()
        await self._child.ready(self._answers, seconds=SANDBOX_READY_SECONDS, deaths_max=2)

    async def stop(self) -> None:
        await self._child.stop()
        self.control_socket.unlink(missing_ok=True)  # else PostgreSQL's folder of it stays

    async def _answers(self, _pid: int) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return self.control_socket.exists()


def control_socket(parts: EmbeddedParts) -> Path:
    """Where the simulated processor takes commands: beside PostgreSQL's socket.

    A socket's path must be short, and that folder is chosen so.
    """
    query = parse_qs(urlsplit(parts.runtime_dsn).query)
    return Path(query["host"][0]) / "sandbox.sock"


@asynccontextmanager
async def embedded_deployment(
    folder: Path,
    *,
    at: datetime,
    options: StartOptions,
    memory: SandboxMemory = SandboxMemory.NOTHING,
    own_inbound: bool = True,
) -> AsyncIterator[EmbeddedDeployment]:
    """Start the children, write `panward.toml` and `credentials.json`, and end them afterwards.

    `own_inbound`: with the inbound routes of the folder's owner, if there are any. Raises
    StartRefused with what to change.
    """
    children = await Embedded.start(folder, at=at, options=options)
    try:
        parts = children.parts
        sandbox = Sandbox(parts, memory=memory, given_up=options.given_up)
        await sandbox.start()
        try:
            write_files(parts)
            config = load_config(parts.folder / "panward.toml")
            tenant = await _provide_tenant(parts, config, sandbox, at=at)
            text = configuration(parts, inbound_of=tenant, own_inbound=own_inbound)
            write_private(parts.folder / "panward.toml", text.encode())
            config = load_config(parts.folder / "panward.toml")
            yield EmbeddedDeployment(children, parts, sandbox, config)
        finally:
            await sandbox.stop()
    finally:
        await children.stop()


def write_files(parts: EmbeddedParts) -> None:
    """Write `panward.toml` and the addresses that it names."""
    folder = parts.folder / "secrets"
    write_private(folder / "runtime.dsn", f"{parts.runtime_dsn}\n".encode())
    write_private(folder / "owner.dsn", f"{parts.owner_dsn}\n".encode())
    write_private(parts.folder / "panward.toml", configuration(parts).encode())


def configuration(
    parts: EmbeddedParts, *, inbound_of: str | None = None, own_inbound: bool = False
) -> str:
    """The text of an embedded deployment's `panward.toml`; also the sample of one.

    `inbound_of` is the tenant of the trial's inbound route; without it there is none.
    """
    names = ("public", "private", "ops", *(() if inbound_of is None else ("inbound",)))
    listeners = "\n".join(
        f"""
[listeners.{name}]
host = "127.0.0.1"
port = {parts.ports[name]}
certificate_file = {_quoted(parts.tls_cert_file)}
private_key_file = {_quoted(parts.tls_key_file)}
keepalive_seconds = 10{PUBLIC_LIMITS if name == "public" else ""}"""
        for name in names
    )
    logins = "\n".join(
        f"""
[vault.{login}]
role_id_file = {_quoted(parts.logins[name].role_id_file)}
secret_id_file = {_quoted(parts.logins[name].secret_id_file)}"""
        for login, name in LOGIN_NAMES.items()
    )
    return f"""\
# Written at each start of `panward up --embedded`. A changed copy is of use with `--config` only
# while that deployment runs, since it is what starts the database and the key service; a second
# gateway beside it needs ports and a state_folder of its own.
env = "test"
state_folder = "gateway"
{listeners}
{_connect(parts)}
[vault]
addresses = ["{parts.vault_address}"]
ca_file = {_quoted(parts.vault_ca_file)}
client_certificate_file = {_quoted(parts.vault_client_cert_file)}
client_key_file = {_quoted(parts.vault_client_key_file)}
{logins}

[database]
runtime_dsn_file = "secrets/runtime.dsn"
owner_dsn_file = "secrets/owner.dsn"
volume = "."

[checkout]  # all shoppers of a trial have one address
address_per_second = 1000
address_burst = 2000
key_per_second = 2000
key_burst = 4000

[deliveries]  # merchants' endpoints on this machine, with a certificate of this authority
address_allow = ["127.0.0.1/32"]
ca_file = {_quoted(parts.tls_ca_file)}

[ledger]
origin = "{ORIGIN}"
reserve_bytes = {RESERVE_BYTES}

{_routes(parts)}
{"" if inbound_of is None else _inbound(parts, inbound_of, own=own_inbound)}
[embedded]
folder = "."
"""


def _connect(parts: EmbeddedParts) -> str:
    """The proxy, which needs an authority: a folder of an earlier version has none."""
    if not parts.has_authority:
        return "\n# No proxy: this folder was made by an earlier version. Begin with a new one.\n"
    return f"""
[listeners.connect]  # HTTPS_PROXY for SDKs; plain, because it is on loopback
host = "127.0.0.1"
port = {parts.ports["connect"]}
"""


def _routes(parts: EmbeddedParts) -> str:
    """Each simulated processor; they are told apart by their paths."""
    return "\n".join(
        f"""\
[[routes]]
name = "{name}"
preset = "{name}"
host = "127.0.0.1:{parts.ports["sandbox"]}"  # the simulated processor
address_allow = ["127.0.0.1/32"]
ca_file = {_quoted(parts.tls_ca_file)}
connect_names = {msgspec.json.encode(connect_names).decode()}
unknown_replay = "{"within_lifetime" if name == "stripe" else "never"}"
"""
        for name, connect_names in ROUTES.items()
    )


def _inbound(parts: EmbeddedParts, tenant: str, *, own: bool) -> str:
    """What stands in front of the demo's old shop, or what somebody tries instead."""
    file = parts.folder / OWN_INBOUND
    if own and file.is_file():
        return file.read_text("utf-8")
    return f"""\
[[inbound]]  # the demo's old shop; routes of your own in {OWN_INBOUND} take its place
name = "old-shop"
tenant = "{tenant}"
hosts = ["127.0.0.1", "localhost"]
upstream = "http://127.0.0.1:{parts.ports["old_shop"]}"
address_allow = ["127.0.0.1/32"]
undeclared = "mask"
address_per_second = 1000
address_burst = 2000

[[inbound.filters]]
content_type = "application/x-www-form-urlencoded"
selector = "card_number"
exp_month = "card_month"
exp_year = "card_year"
cvc = "card_code"
"""


def _quoted(path: Path) -> str:
    """A TOML string; JSON's escapes are TOML's."""
    return msgspec.json.encode(str(path)).decode()


# --- the first tenant ---------------------------------------------------------------------


async def _provide_tenant(
    parts: EmbeddedParts, config: Config, sandbox: Sandbox, *, at: datetime
) -> str:
    """Once: a tenant with a key of each kind, its processor keys in HashiCorp Vault, an auditor.

    Returns the tenant's id.

    `credentials.json` is written last, so that an interrupted first start does it all again
    under another name.
    """
    path = parts.folder / "credentials.json"
    if path.exists():
        kept = msgspec.json.decode(path.read_bytes(), type=Credentials)
        async with _prepared(parts) as database:
            if kept.auditor_key is None:  # the folder was made by an earlier version
                auditor = await new_auditor(AuditorTable(database), at=at)
                kept = msgspec.structs.replace(kept, auditor_key=auditor.text)
            await _list_shop(TenantTable(database), kept.publishable_key, parts)
        write_private(path, _document(_credentials(parts, kept)))
        return kept.tenant
    async with _prepared(parts) as database:
        tenant, publishable, secret = await new_tenant(
            TenantTable(database),
            f"{TENANT}-{secrets.token_hex(3)}",
            at=at,
            origins=shop_origins(parts),
        )
        auditor = await new_auditor(AuditorTable(database), at=at)
    for route, secrets_ in processor_secrets(sandbox.api_key_file.read_text("ascii").strip()):
        await set_credential(config, tenant.id, route, secrets_)
    made = Credentials(
        public_url="",
        private_url="",
        proxy_url="",
        ops_url="",
        ca_file="",
        tenant=tenant.id,
        publishable_key=publishable.text,
        secret_key=secret.text,
        auditor_key=auditor.text,
    )
    write_private(path, _document(_credentials(parts, made)))
    return tenant.id


@asynccontextmanager
async def _prepared(parts: EmbeddedParts) -> AsyncIterator[Database]:
    """The database, with this version's schema."""
    await migrate(parts.owner_dsn, runtime_role=RUNTIME)
    database = await Database.open(parts.runtime_dsn)
    try:
        yield database
    finally:
        await database.close()


def processor_secrets(api_key: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Give, for each route, how the first account of the simulated processors proves itself."""
    account = credentials_of([api_key])[FIRST_ACCOUNT]
    for route in ROUTES:
        short = route == "authorize_net"
        yield (
            route,
            {
                "api_key": transaction_key(api_key) if short else account.api_key,
                "user": account.user,
                "secret": account.secret,
                "merchant_id": FIRST_ACCOUNT,
            },
        )


async def new_tenant(
    table: TenantTable, name: str, *, at: datetime, origins: Iterable[str] = ()
) -> tuple[Tenant, NewApiKey, NewApiKey]:
    """Add a tenant with a publishable key and a secret key that may do everything.

    `origins` are the pages that may use the first.
    """
    tenant = Tenant(new_id("t", TENANT_CHARACTERS), name, at)
    await table.add(tenant)
    publishable = new_api_key("publishable_key", "test")
    secret = new_api_key("secret_key", "test")
    scopes = frozenset({*(scope.value for scope in Scope), *map(route_scope, ROUTES)})
    nothing: frozenset[str] = frozenset()
    row = ApiKeyRow(
        publishable.id,
        tenant.id,
        "publishable_key",
        publishable.digest,
        nothing,
        at,
        None,
        None,
        frozenset(origins),
    )
    await table.add_key(row)
    row = ApiKeyRow(secret.id, tenant.id, "secret_key", secret.digest, scopes, at, None, None)
    await table.add_key(row)
    return tenant, publishable, secret


def shop_origins(parts: EmbeddedParts) -> tuple[str, ...]:
    """Pages that may use the trial's publishable key: the demo's shop, and a page one tries."""
    return (f"https://127.0.0.1:{parts.ports['shop']}", *TRIAL_ORIGINS)


async def _list_shop(table: TenantTable, publishable_key: str, parts: EmbeddedParts) -> None:
    """Ports may be others than at the last start; what somebody has listed stays."""
    presented = parse_api_key(publishable_key)
    row = None if presented is None else await table.key(presented.id)
    if row is not None:
        await table.set_origins(row.id, row.origins.union(shop_origins(parts)))


async def new_auditor(table: AuditorTable, *, at: datetime) -> NewApiKey:
    """Add a key for the whole log; under another name each time, for a start that was cut off."""
    made = new_api_key("auditor_key", "test")
    name = f"{AUDITOR}-{secrets.token_hex(3)}"
    await table.add(AuditorKeyRow(made.id, name, made.digest, at, None, None))
    return made


async def set_credential(
    config: Config, tenant: str, route: str, data: dict[str, str]
) -> int | None:
    """Write a processor credential into HashiCorp Vault, under a login of one command.

    Returns the new version; None when somebody else wrote at the same time. Raises any
    KeysError; StartRefused when the configuration has no `credentials` login.
    """
    async with _credentials_login(config) as transit:
        path = f"processor/{tenant}/{route}"
        version = await transit.secret_version(path)
        return await transit.write_secret(path, data, cas=version)


async def list_credentials(config: Config) -> list[tuple[str, str, int]]:
    """Return (tenant, route, version) of every processor credential; never what they are.

    Raises any KeysError; StartRefused when the configuration has no `credentials` login.
    """
    found = []
    async with _credentials_login(config) as transit:
        for folder in await transit.list_secrets("processor"):
            tenant = folder.rstrip("/")
            for route in await transit.list_secrets(f"processor/{tenant}"):
                version = await transit.secret_version(f"processor/{tenant}/{route}")
                found.append((tenant, route, version))
    return found


async def set_callback_secret(
    config: Config, tenant: str, route: str, name: str, text: str
) -> int | None:
    """Put one of the secrets that prove a processor's callbacks; the others stay as they are.

    Returns the new version; None when others changed them at the same time, each time. Raises
    any KeysError, TooManySecrets; StartRefused when the configuration has no `credentials` login.
    """
    path = f"callback/{tenant}/{route}"
    async with _credentials_login(config) as transit:
        names = await transit.secret_names(path)
        if name not in names and len(names) >= CALLBACK_SECRETS_MAX:
            raise TooManySecrets
        return await transit.patch_secret(path, {name: text})


async def remove_callback_secret(config: Config, tenant: str, route: str, name: str) -> bool:
    """Take one away; False when there is none of this name. Raises as `set_callback_secret`."""
    path = f"callback/{tenant}/{route}"
    async with _credentials_login(config) as transit:
        if name not in await transit.secret_names(path):
            # A removal that was cut off may have left it in an older version.
            await transit.destroy_before(path, await transit.secret_version(path))
            return False
        if await transit.patch_secret(path, {name: None}) is None:
            raise KeysUnavailable
        return True


async def callback_secret_names(config: Config, tenant: str, route: str) -> list[str]:
    """Return the names of the secrets that are set, in order; HashiCorp Vault gives no value.

    Raises any KeysError; StartRefused when the configuration has no `credentials` login.
    """
    async with _credentials_login(config) as transit:
        return sorted(await transit.secret_names(f"callback/{tenant}/{route}"))


class TooManySecrets(CustodyError):
    """A route has as many callback secrets as are tried for each callback: remove one first."""


@asynccontextmanager
async def _credentials_login(config: Config) -> AsyncIterator[Transit]:
    transit = Transit(credentials_access(config), observer=Silent())
    try:
        await transit.start()
        yield transit
    finally:
        await transit.close()


def credentials_access(config: Config) -> VaultAccess:
    """The login that may write processor and callback secrets, and read none back.

    Raises StartRefused when the configuration does not name it.
    """
    login = config.vault.credentials
    if login is None:
        raise StartRefused("vault.credentials: this command needs that login in the configuration")
    return vault_access(config, login)


def _credentials(parts: EmbeddedParts, kept: Credentials) -> Credentials:
    """The same keys at this start's addresses."""
    return msgspec.structs.replace(
        kept,
        public_url=f"https://127.0.0.1:{parts.ports['public']}",
        private_url=f"https://127.0.0.1:{parts.ports['private']}",
        proxy_url=(f"http://127.0.0.1:{parts.ports['connect']}" if parts.has_authority else None),
        ops_url=f"https://127.0.0.1:{parts.ports['ops']}",
        ca_file=str(parts.tls_ca_file),
        inbound_url=f"https://127.0.0.1:{parts.ports['inbound']}",
    )


def _document(credentials: Credentials) -> bytes:
    return msgspec.json.format(msgspec.json.encode(credentials)) + b"\n"
