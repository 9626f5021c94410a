"""`panward.toml` as one frozen `Config`: read once, complete or refused.

Secrets are never in it: it names files that hold them. Paths are relative to the file's folder.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from gateway import preset as presets
from gateway.addresses import AddressAllow, Host, HostRefused, checked_host
from gateway.config_file import (
    CallbacksConfig,
    CheckoutConfig,
    ConfigFile,
    DatabaseConfig,
    DeliveriesConfig,
    LedgerConfig,
    ListenersConfig,
    LoginConfig,
    RouteConfig,
    VaultConfig,
)
from gateway.config_rules import (
    check_audiences,
    check_checkout,
    check_connect,
    check_deliveries,
    check_dsn,
    check_inbound,
    check_ledger,
    check_listeners,
    check_vault_address,
)
from gateway.inbound.endpoints import Endpoint, check_ca, endpoints_of
from gateway.limits import BURST, CONCURRENCY, PER_SECOND
from gateway.preset import Preset
from gateway.preset_rules import problems_of
from vault.errors import StartRefused
from vault.transit import VaultAccess

FILE_BYTES_MAX: Final = 1 << 20


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
    crl_file: Path | None = None
    crl_check: Literal["leaf", "chain"] = "leaf"
    spki_pins: tuple[bytes, ...] = ()
    client_certificate: bool = False
    egress_proxy: Host | None = None
    egress_proxy_login: str | None = None
    connect_names: tuple[Host, ...] = ()
    tenant_concurrency: int = CONCURRENCY
    rate_per_second: float = PER_SECOND
    rate_burst: int = BURST
    unknown_replay: Literal["never", "within_lifetime"] = "never"

    def __repr__(self) -> str:
        return f"Route({self.name})"  # it may hold the login of a proxy


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
    inbound: tuple[Endpoint, ...]
    checkout: CheckoutConfig
    callbacks: CallbacksConfig
    deliveries: DeliveriesConfig
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
            parsed = msgspec.toml.decode(content, type=ConfigFile)
    except OSError:
        problem = "cannot be read"
    except msgspec.DecodeError as error:  # the operator's own file: its words are safe to show
        problem = f"is not a configuration: {error}"
    if parsed is None:
        raise StartRefused(f"{path} {problem}")
    return _checked(parsed, path)


def _checked(parsed: ConfigFile, path: Path) -> Config:
    names = [route.name for route in parsed.routes]
    if len(set(names)) != len(names):
        raise StartRefused("routes: two routes have the same name")
    if parsed.embedded is not None and parsed.env != "test":
        raise StartRefused('embedded: its seal key lies beside its data, so env must be "test"')
    for number, address in enumerate(parsed.vault.addresses):
        check_vault_address(address, f"vault.addresses[{number}]")
    config = Config(
        env=parsed.env,
        path=path.absolute(),
        state_folder=path.absolute().parent / parsed.state_folder,
        listeners=parsed.listeners,
        vault=parsed.vault,
        database=parsed.database,
        ledger=parsed.ledger,
        routes=tuple(_route(route, parsed, path.absolute().parent) for route in parsed.routes),
        inbound=endpoints_of(parsed.inbound, path.absolute().parent),
        checkout=parsed.checkout,
        callbacks=parsed.callbacks,
        deliveries=parsed.deliveries,
        embedded=path.absolute().parent / parsed.embedded.folder if parsed.embedded else None,
    )
    _check_files(config)
    check_listeners(parsed.listeners, names)
    check_checkout(parsed.checkout)
    check_deliveries(parsed)
    check_inbound(parsed)
    if parsed.listeners.connect is not None:
        _check_connect_names(config.routes)
    check_ledger(parsed.ledger)
    check_dsn(config.secret(parsed.database.runtime_dsn_file), "database.runtime_dsn_file")
    return config


def _check_files(config: Config) -> None:
    listeners = config.listeners
    named = [(f"listeners.{name}", one) for name, one in listeners.named().items()]
    check_audiences(listeners)
    ports = [(listener.host, listener.port) for _, listener in named]
    if listeners.connect is not None:
        ports.append((listeners.connect.host, listeners.connect.port))
        check_connect(listeners.connect)
    if len(set(ports)) != len(ports):
        raise StartRefused("listeners: two of them have the same port")
    wanted = [("vault.ca_file", config.vault.ca_file)]
    for name, listener in named:
        wanted.append((f"{name}.certificate_file", listener.certificate_file))
        wanted.append((f"{name}.private_key_file", listener.private_key_file))
        if listener.client_ca_file is not None:
            wanted.append((f"{name}.client_ca_file", listener.client_ca_file))
    for setting, name in wanted:
        if not config.file(name).is_file():
            raise StartRefused(f"{setting}: there is no file {config.file(name)}")


def _route(route: RouteConfig, parsed: ConfigFile, folder: Path) -> Route:
    where = f"routes.{route.name}"
    preset = _preset(route.preset, folder, where)
    allow, (host, port) = _addresses(route, where)
    if route.credential not in preset.credential.modes:
        raise StartRefused(f'{where}: the preset does not allow credential = "{route.credential}"')
    # Behind a proxy the list speaks of the proxy: then only the preset's own hosts will do.
    private = bool(route.address_allow) and route.egress_proxy is None
    _check_host(preset, host, parsed, where, private=private)
    _check_pairs(route, where)
    ca_file = folder / route.ca_file if route.ca_file else None
    if ca_file is not None:
        check_ca(ca_file, where)
    proxy = _named(route.egress_proxy, allow, where) if route.egress_proxy else None
    if proxy is not None and not (route.egress_proxy or "").endswith(f":{proxy.port}"):
        raise StartRefused(f"{where}: egress_proxy must say its port")
    names = route.connect_names
    return Route(
        name=route.name,
        preset=preset,
        host=host,
        port=port,
        credential=route.credential,
        address_allow=allow,
        ca_file=ca_file,
        concurrency=route.concurrency,
        crl_file=folder / route.crl_file if route.crl_file else None,
        crl_check=route.crl_check,
        spki_pins=tuple(base64.b64decode(pin) for pin in route.spki_pins),
        client_certificate=route.client_certificate,
        egress_proxy=proxy,
        egress_proxy_login=_login(route, folder, where),
        connect_names=(
            (Host(host, port),)
            if names is None
            else tuple(_named(name, allow, where) for name in names)
        ),
        tenant_concurrency=route.tenant_concurrency,
        rate_per_second=route.rate_per_second,
        rate_burst=route.rate_burst,
        unknown_replay=route.unknown_replay,
    )


def _check_pairs(route: RouteConfig, where: str) -> None:
    """Refuse what would look like a protection and be none."""
    if route.crl_check != "leaf" and route.crl_file is None:
        raise StartRefused(f"{where}: crl_check needs a crl_file")
    if route.egress_proxy_login_file is not None and route.egress_proxy is None:
        raise StartRefused(f"{where}: egress_proxy_login_file needs an egress_proxy")


def _login(route: RouteConfig, folder: Path, where: str) -> str | None:
    """Read `user:password` for the proxy between here and the processor."""
    if route.egress_proxy_login_file is None:
        return None
    try:
        text = (folder / route.egress_proxy_login_file).read_text("ascii").strip()
    except (OSError, UnicodeError):
        text = ""
    if ":" not in text:
        raise StartRefused(f"{where}: egress_proxy_login_file must hold user:password")
    return text


def _check_connect_names(routes: Sequence[Route]) -> None:
    """A tunnel is for one route: which, its host alone says."""
    owners: dict[Host, str] = {}
    for route in routes:
        for name in route.connect_names:
            if name in owners:
                raise StartRefused(
                    f"routes.{route.name}: {name.name}:{name.port} is the connect name of"
                    f" {owners[name]} too: give one of them other connect_names"
                )
            owners[name] = route.name


def _named(text: str, allow: AddressAllow, where: str) -> Host:
    try:
        return checked_host(text, allow)
    except HostRefused as refusal:
        problem = str(refusal)
    raise StartRefused(f"{where}: {problem}")


def _addresses(route: RouteConfig, where: str) -> tuple[AddressAllow, Host]:
    try:
        allow = AddressAllow.parse(route.address_allow)
    except HostRefused as refusal:
        problem = str(refusal)
    else:
        return allow, _named(route.host, allow, where)
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


def _check_host(
    preset: Preset, host: str, parsed: ConfigFile, where: str, *, private: bool
) -> None:
    """Embedded keys never meet a live processor; a card goes to the preset's hosts or stays here.

    A host of one's own (a simulated processor) must be at an address that the route lists.
    """
    hosts = preset.hosts
    live, test = hosts.are_live(host), hosts.are_test(host)
    if not live and not test and not private:
        raise StartRefused(f"{where}: {preset.title} has no such host")
    if parsed.embedded is not None and live:
        raise StartRefused(f"{where}: an embedded deployment never speaks to a live processor")
    if parsed.env == "live" and test and not live:
        raise StartRefused(f"{where}: a test host in a live deployment")


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
