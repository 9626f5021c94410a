"""`panward.toml` as it is written: types and ranges. Pure.

What the settings mean together, and the files that they name, are looked at in
`gateway/config.py`. There is no switch here that turns a protection off.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from gateway.inbound.rules import InboundConfig
from gateway.limits import BURST, CONCURRENCY, PER_SECOND

ROUTE_NAME: Final = "^[a-z0-9_-]{1,64}$"

Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(pattern=ROUTE_NAME)]
Pin = Annotated[str, Meta(pattern="^[A-Za-z0-9+/]{43}=$")]  # SHA-256, as RFC 7469 writes it


class ListenerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One listening socket, always TLS 1.2 or newer."""

    port: Port
    certificate_file: str
    private_key_file: str
    host: str = "127.0.0.1"
    keepalive_seconds: Annotated[float, Meta(gt=0, le=300)] = 10.0
    names: tuple[str, ...] = ()
    connections_per_address_max: Annotated[int, Meta(ge=1)] | None = None
    client_ca_file: str | None = None
    """Whose certificates may stand for an API key: for `private` and `of_route`. For `callbacks`:
    for a processor that does not sign (Worldpay WPG), by the names in them."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks of reverse proxies whose X-Forwarded-For is believed; nobody else's is."""


class ConnectConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The proxy for SDKs that take no base URL. Without a certificate it is plain."""

    port: Port
    host: str = "127.0.0.1"
    certificate_file: str | None = None
    private_key_file: str | None = None
    plain: bool = False
    """Plain beyond loopback: API keys cross the network in the clear. Only within one host."""
    keepalive_seconds: Annotated[float, Meta(gt=0, le=300)] = 10.0
    connections_per_address_max: Annotated[int, Meta(ge=1)] | None = None


class ListenersConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Three audiences, three sockets; `connect` and `of_route` are two more ways to `private`.

    `callbacks` is one more to what processors call at `public`, for those that show a certificate:
    a browser is never asked for one.
    """

    public: ListenerConfig
    private: ListenerConfig
    ops: ListenerConfig
    connect: ConnectConfig | None = None
    of_route: dict[str, ListenerConfig] = {}
    """By route: a port where the whole path is the processor's, for SDKs that take no path."""
    inbound: ListenerConfig | None = None
    """In front of merchants' own endpoints: `[[inbound]]` says which."""
    callbacks: ListenerConfig | None = None

    def named(self) -> dict[str, ListenerConfig]:
        """Every listener of HTTP by its name."""
        return {
            "public": self.public,
            "private": self.private,
            "ops": self.ops,
            **({} if self.inbound is None else {"inbound": self.inbound}),
            **({} if self.callbacks is None else {"callbacks": self.callbacks}),
            **{f"of_route.{name}": one for name, one in self.of_route.items()},
        }


class LoginConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One AppRole login."""

    role_id_file: str
    secret_id_file: str


class VaultConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where HashiCorp Vault (or OpenBao) is, and the logins; the last two only for a command."""

    addresses: Annotated[tuple[str, ...], Meta(min_length=1)]
    ca_file: str
    tokenize: LoginConfig
    reveal: LoginConfig
    credentials: LoginConfig | None = None
    break_glass: LoginConfig | None = None
    client_certificate_file: str | None = None
    client_key_file: str | None = None


class DatabaseConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Two roles: the owner migrates, the runtime role works."""

    runtime_dsn_file: str
    owner_dsn_file: str | None = None
    volume: str | None = None
    """A folder on the disk of the database's files, where that is a disk of this machine."""


class WitnessConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One witness of checkpoints, elsewhere: where it is, and the key that it cosigns with."""

    name: Name
    vkey: Annotated[str, Meta(max_length=4096)]
    url: str
    ca_file: str | None = None
    address_allow: tuple[str, ...] = ()


class LedgerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`origin` names the log for ever: a schema-less URL without trailing slash."""

    origin: Annotated[str, Meta(pattern="^[a-z0-9.-]+(/[A-Za-z0-9._-]+)*$", max_length=255)]
    on_stale: Literal["alert", "seal"] = "alert"
    """What follows when signatures or cosignatures stop: an alert, or disclosures stop too."""
    stale_checkpoint_seconds: Annotated[int, Meta(ge=60)] = 60
    stale_cosignature_seconds: Annotated[int, Meta(ge=60)] = 900
    key_overlap_days: Annotated[int, Meta(ge=0, le=366)] = 7
    """How long the key before the newest goes on signing beside it."""
    export_folder: str | None = None
    """Everything published, as files."""
    checkpoint_folder: str | None = None
    """A copy of each checkpoint, for storage that can be written once."""
    witnesses: tuple[WitnessConfig, ...] = ()
    quorum: Annotated[int, Meta(ge=0, le=64)] = 0
    """How many witnesses must have cosigned lately; fewer, and it counts as stale."""
    reserve_bytes: Annotated[int, Meta(ge=1 << 20)] = 256 << 20
    """Space that must stay free for the spool and for the database."""


class CheckoutConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What pages may do, and how long the keys live that they seal cards to."""

    edge_key_hours: Annotated[int, Meta(ge=1, le=168)] = 24
    """How long cards are sealed to a key, before there is a newer one."""
    edge_key_overlap_hours: Annotated[int, Meta(ge=1, le=168)] = 24
    """How long after that the key still opens; then it is destroyed. Apps need more than pages."""
    address_per_second: Annotated[float, Meta(ge=0.01, le=1_000_000)] = 1.0
    address_burst: Annotated[int, Meta(ge=1)] = 30
    key_per_second: Annotated[float, Meta(ge=0.01, le=1_000_000)] = 100.0
    key_burst: Annotated[int, Meta(ge=1)] = 400
    usual_declines: Annotated[float, Meta(ge=0.01, le=0.9)] = 0.2
    """The share of cards that may turn out bad before it looks like somebody trying them out."""
    network_failures: Annotated[int, Meta(ge=1)] = 10
    """Bad cards of one network in ten minutes, each two good ones taking one away."""


class CallbacksConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What processors are told of us, and whose certificates sign for them."""

    public_url: Annotated[str, Meta(pattern="^https://[^/?#]+(/[^?#]*)?$")] | None = None
    """How processors reach the public listener; Square signs it with each callback."""
    signing_roots_file: str | None = None
    """PayPal: the authorities (PEM) that its signing certificates must chain to."""


class DeliveriesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How merchants' webhooks are reached."""

    address_allow: tuple[str, ...] = ()
    """Private networks that a webhook may be in; all others are refused."""
    ca_file: str | None = None
    """Whose certificates merchants' endpoints show; none: the system's authorities."""
    concurrency: Annotated[int, Meta(ge=1, le=1024)] = 64


class RouteConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One processor: where its cards may go, and nowhere else."""

    name: Name
    preset: str
    host: str
    credential: Literal["injected", "own"] = "injected"
    address_allow: tuple[str, ...] = ()
    ca_file: str | None = None
    crl_file: str | None = None
    crl_check: Literal["leaf", "chain"] = "leaf"
    spki_pins: tuple[Pin, ...] = ()
    client_certificate: bool = False
    egress_proxy: str | None = None
    egress_proxy_login_file: str | None = None
    connect_names: tuple[str, ...] | None = None
    concurrency: Annotated[int, Meta(ge=1, le=1024)] = 128
    tenant_concurrency: Annotated[int, Meta(ge=1, le=1024)] = CONCURRENCY
    rate_per_second: Annotated[float, Meta(ge=0.01, le=1_000_000)] = PER_SECOND
    rate_burst: Annotated[int, Meta(ge=1)] = BURST
    unknown_replay: Literal["never", "within_lifetime"] = "never"
    """Whether the gateway itself sends a call again, under the same idempotency key, whose outcome
    is unknown: it may carry out a charge that the merchant has given up."""


class EmbeddedConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Present when the children of `--embedded` hold the keys and the rows."""

    folder: str


class ConfigFile(Struct, frozen=True, forbid_unknown_fields=True):
    """`panward.toml` as it is written."""

    env: Literal["test", "live"]
    state_folder: str
    listeners: ListenersConfig
    vault: VaultConfig
    database: DatabaseConfig
    ledger: LedgerConfig
    routes: tuple[RouteConfig, ...] = ()
    inbound: tuple[InboundConfig, ...] = ()
    checkout: CheckoutConfig = CheckoutConfig()
    callbacks: CallbacksConfig = CallbacksConfig()
    deliveries: DeliveriesConfig = DeliveriesConfig()
    embedded: EmbeddedConfig | None = None
