"""`panward.toml` as one frozen `Config`: read once, complete or refused.

Secrets are never in it: it names files that hold them. Paths are relative to the file's folder.
There is no switch here that turns a protection off.
"""

import ssl
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta, Struct

from gateway import preset as presets
from gateway.addresses import AddressAllow, Host, HostRefused, checked_host
from gateway.preset import Preset
from gateway.preset_rules import problems_of
from vault.errors import StartRefused
from vault.transit import VaultAccess

ROUTE_NAME: Final = "^[a-z0-9_-]{1,64}$"
FILE_BYTES_MAX: Final = 1 << 20

Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(pattern=ROUTE_NAME)]


class ListenerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One listening socket, always TLS 1.2 or newer."""

    port: Port
    certificate_file: str
    private_key_file: str
    host: str = "127.0.0.1"
    keepalive_seconds: Annotated[float, Meta(gt=0, le=300)] = 10.0
    names: tuple[str, ...] = ()
    connections_per_address_max: Annotated[int, Meta(ge=1)] | None = None


class ListenersConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Three audiences, three sockets."""

    public: ListenerConfig
    private: ListenerConfig
    ops: ListenerConfig


class LoginConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One AppRole login."""

    role_id_file: str
    secret_id_file: str


class VaultConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where HashiCorp Vault (or OpenBao) is, and the logins: `credentials` only for a command."""

    addresses: Annotated[tuple[str, ...], Meta(min_length=1)]
    ca_file: str
    tokenize: LoginConfig
    reveal: LoginConfig
    credentials: LoginConfig | None = None
    client_certificate_file: str | None = None
    client_key_file: str | None = None


class DatabaseConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Two roles: the owner migrates, the runtime role works."""

    runtime_dsn_file: str
    owner_dsn_file: str | None = None


class LedgerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`origin` names the log for ever: a schema-less URL without trailing slash."""

    origin: Annotated[str, Meta(pattern="^[a-z0-9.-]+(/[A-Za-z0-9._-]+)*$", max_length=255)]


class RouteConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One processor: where its cards may go, and nowhere else."""

    name: Name
    preset: str
    host: str
    credential: Literal["injected", "own"] = "injected"
    address_allow: tuple[str, ...] = ()
    ca_file: str | None = None
    concurrency: Annotated[int, Meta(ge=1, le=1024)] = 128


class EmbeddedConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Present when the children of `--embedded` hold the keys and the rows."""

    folder: str


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    env: Literal["test", "live"]
    state_folder: str
    listeners: ListenersConfig
    vault: VaultConfig
    database: DatabaseConfig
    ledger: LedgerConfig
    routes: tuple[RouteConfig, ...] = ()
    embedded: EmbeddedConfig | None = None


class Route(Struct, frozen=True):
    """A route with all that was looked up for it."""

    name: str
    preset: Preset
    host: str
    port: int
    credential: str
    address_allow: AddressAllow
    ca_file: Path | None
    concurrency: int


class Config(Struct, frozen=True):
    """Everything a start needs, checked."""

    env: Literal["test", "live"]
    path: Path
    state_folder: Path
    listeners: ListenersConfig
    vault: VaultConfig
    database: DatabaseConfig
    ledger: LedgerConfig
    routes: tuple[Route, ...]
    embedded: Path | None

    def file(self, name: str) -> Path:
        """A file named in the configuration."""
        return self.path.parent / name

    def secret(self, name: str) -> str:
        """The one line of a secret's file. Raises StartRefused when it is not there."""
        try:
            text = self.file(name).read_text("ascii").strip()
        except (OSError, UnicodeError):
            text = ""
        if not text:
            raise StartRefused(f"{self.file(name)} holds no secret, or cannot be read")
        return text


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises StartRefused with what to change, naming the setting.
    """
    problem = None
    parsed = None
    try:
        content = path.read_bytes()
        if len(content) > FILE_BYTES_MAX:
            problem = "is too large"
        else:
            parsed = msgspec.toml.decode(content, type=_File)
    except OSError:
        problem = "cannot be read"
    except msgspec.DecodeError as error:  # the operator's own file: its words are safe to show
        problem = f"is not a configuration: {error}"
    if parsed is None:
        raise StartRefused(f"{path} {problem}")
    return _checked(parsed, path)


def _checked(parsed: _File, path: Path) -> Config:
    names = [route.name for route in parsed.routes]
    if len(set(names)) != len(names):
        raise StartRefused("routes: two routes have the same name")
    if parsed.embedded is not None and parsed.env != "test":
        raise StartRefused('embedded: its seal key lies beside its data, so env must be "test"')
    for number, address in enumerate(parsed.vault.addresses):
        _check_vault_address(address, f"vault.addresses[{number}]")
    config = Config(
        env=parsed.env,
        path=path.absolute(),
        state_folder=path.absolute().parent / parsed.state_folder,
        listeners=parsed.listeners,
        vault=parsed.vault,
        database=parsed.database,
        ledger=parsed.ledger,
        routes=tuple(_route(route, parsed, path.absolute().parent) for route in parsed.routes),
        embedded=path.absolute().parent / parsed.embedded.folder if parsed.embedded else None,
    )
    _check_files(config)
    _check_dsn(config.secret(parsed.database.runtime_dsn_file), "database.runtime_dsn_file")
    return config


def _check_vault_address(address: str, setting: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/"):
        raise StartRefused(f"{setting}: must be https://host:port, without a path")
    if parts.username is not None or parts.query or parts.fragment:
        raise StartRefused(f"{setting}: must be https://host:port and nothing else")


def _check_dsn(dsn: str, setting: str) -> None:
    """Over TCP only verified TLS; a Unix socket needs none."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    socket_folder = (query.get("host") or [""])[0].startswith("/")
    if parts.scheme not in ("postgresql", "postgres"):
        raise StartRefused(f"{setting}: must hold a postgresql:// address")
    if not socket_folder and query.get("sslmode") != ["verify-full"]:
        raise StartRefused(f"{setting}: over TCP it must say sslmode=verify-full")


def _check_files(config: Config) -> None:
    listeners = config.listeners
    named = [
        (f"listeners.{name}", listener)
        for name, listener in (
            ("public", listeners.public),
            ("private", listeners.private),
            ("ops", listeners.ops),
        )
    ]
    ports = [(listener.host, listener.port) for _, listener in named]
    if len(set(ports)) != len(ports):
        raise StartRefused("listeners: two of them have the same port")
    wanted = [("vault.ca_file", config.vault.ca_file)]
    for name, listener in named:
        wanted.append((f"{name}.certificate_file", listener.certificate_file))
        wanted.append((f"{name}.private_key_file", listener.private_key_file))
    for setting, name in wanted:
        if not config.file(name).is_file():
            raise StartRefused(f"{setting}: there is no file {config.file(name)}")


def _route(route: RouteConfig, parsed: _File, folder: Path) -> Route:
    where = f"routes.{route.name}"
    preset = _preset(route.preset, folder, where)
    allow, (host, port) = _addresses(route, where)
    if route.credential not in preset.credential.modes:
        raise StartRefused(f'{where}: the preset does not allow credential = "{route.credential}"')
    _check_host(preset, host, parsed, where, private=bool(route.address_allow))
    ca_file = folder / route.ca_file if route.ca_file else None
    if ca_file is not None:
        _check_ca(ca_file, where)
    return Route(
        name=route.name,
        preset=preset,
        host=host,
        port=port,
        credential=route.credential,
        address_allow=allow,
        ca_file=ca_file,
        concurrency=route.concurrency,
    )


def _addresses(route: RouteConfig, where: str) -> tuple[AddressAllow, Host]:
    try:
        allow = AddressAllow.parse(route.address_allow)
        return allow, checked_host(route.host, allow)
    except HostRefused as refusal:
        problem = str(refusal)
    raise StartRefused(f"{where}: {problem}")


def _preset(name: str, folder: Path, where: str) -> Preset:
    """A preset that comes with panward, or a merchant's own file beside the configuration."""
    if not name.endswith(".toml"):
        return presets.load(name)
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError:
        content = None
    if content is None:
        raise StartRefused(f"{where}: {path} cannot be read")
    preset = presets.parse(content)
    for problem in problems_of(preset):
        raise StartRefused(f"{path}: {problem}")
    return preset


def _check_host(preset: Preset, host: str, parsed: _File, where: str, *, private: bool) -> None:
    """Embedded keys never meet a live processor; a card goes to the preset's hosts or stays here.

    A host of one's own (a simulated processor) must be at an address that the route lists.
    """
    hosts = preset.hosts
    if host not in hosts.live + hosts.test and not private:
        raise StartRefused(f"{where}: {preset.title} has no such host")
    if parsed.embedded is not None and host in hosts.live:
        raise StartRefused(f"{where}: an embedded deployment never speaks to a live processor")
    if parsed.env == "live" and host in set(hosts.test) - set(hosts.live):
        raise StartRefused(f"{where}: a test host in a live deployment")


def _check_ca(path: Path, where: str) -> None:
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError):
        readable = False
    else:
        readable = True
    if not readable:
        raise StartRefused(f"{where}: {path} holds no certificate authority")


def vault_access(config: Config, login: LoginConfig) -> VaultAccess:
    """How to reach HashiCorp Vault under a login."""
    vault = config.vault
    certificate, key = vault.client_certificate_file, vault.client_key_file
    return VaultAccess(
        addresses=vault.addresses,
        ca_file=str(config.file(vault.ca_file)),
        role_id=config.secret(login.role_id_file),
        secret_id_file=str(config.file(login.secret_id_file)),
        client_cert_file=str(config.file(certificate)) if certificate else None,
        client_key_file=str(config.file(key)) if key else None,
    )
