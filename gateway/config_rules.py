"""What settings must be, each by itself and beside the others. Pure: no file is looked at.

What never may live here: what a setting is for. Each rule raises StartRefused, naming the setting.
"""

from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from gateway.addresses import AddressAllow, HostRefused, is_proxy_network
from gateway.config_file import (
    CheckoutConfig,
    ConfigFile,
    ConnectConfig,
    LedgerConfig,
    ListenersConfig,
)
from gateway.https_client import HttpsUrl
from gateway.witness_client import witness_key
from vault.edge_keys import LIFE_MAX
from vault.errors import StartRefused
from vault.ledger.note import NoteRefused


def check_checkout(checkout: CheckoutConfig) -> None:
    hours = checkout.edge_key_hours + checkout.edge_key_overlap_hours
    if timedelta(hours=hours) > LIFE_MAX:
        raise StartRefused("checkout: an edge key may live for two weeks, its overlap included")


def check_deliveries(parsed: ConfigFile) -> None:
    """Networks that webhooks may be in must be ones that can be listed."""
    try:
        AddressAllow.parse(parsed.deliveries.address_allow)
    except HostRefused as refusal:
        problem = str(refusal)
    else:
        return
    raise StartRefused(f"deliveries.address_allow: {problem}")


def check_inbound(parsed: ConfigFile) -> None:
    """Routes need their listener, and no host may mean two things."""
    if parsed.listeners.inbound is None:
        if parsed.inbound:
            raise StartRefused("inbound: routes need a listener, [listeners.inbound]")
        return
    if not parsed.inbound:
        raise StartRefused("listeners.inbound: there is no [[inbound]] route for it")
    names = [route.name for route in parsed.inbound]
    if len(set(names)) != len(names):
        raise StartRefused("inbound: two routes have the same name")


def check_listeners(listeners: ListenersConfig, routes: Sequence[str]) -> None:
    for name, listener in listeners.named().items():
        if not all(map(is_proxy_network, listener.trusted_proxies)):
            raise StartRefused(f"listeners.{name}.trusted_proxies: networks of your own proxies")
        if listener.trusted_proxies and listener.connections_per_address_max is not None:
            raise StartRefused(
                f"listeners.{name}: connections_per_address_max would count your own proxies'"
            )
    for name in listeners.of_route:
        if name not in routes:
            raise StartRefused(f"listeners.of_route.{name}: there is no route of this name")


def check_ledger(ledger: LedgerConfig) -> None:
    names = [witness.name for witness in ledger.witnesses]
    if len(set(names)) != len(names):
        raise StartRefused("ledger.witnesses: two witnesses have the same name")
    if ledger.quorum > len(names):
        raise StartRefused("ledger.quorum: there are fewer witnesses than that")
    for witness in ledger.witnesses:
        try:
            witness_key(witness.vkey)
            HttpsUrl.parse(witness.url, AddressAllow.parse(witness.address_allow))
        except (NoteRefused, HostRefused) as refusal:
            problem = str(refusal)
        else:
            continue
        raise StartRefused(f"ledger.witnesses.{witness.name}: {problem}")


def check_vault_address(address: str, setting: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/"):
        raise StartRefused(f"{setting}: must be https://host:port, without a path")
    if parts.username is not None or parts.query or parts.fragment:
        raise StartRefused(f"{setting}: must be https://host:port and nothing else")


def check_dsn(dsn: str, setting: str) -> None:
    """Over TCP only verified TLS; a Unix socket needs none."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    socket_folder = (query.get("host") or [""])[0].startswith("/")
    if parts.scheme not in ("postgresql", "postgres"):
        raise StartRefused(f"{setting}: must hold a postgresql:// address")
    if not socket_folder and query.get("sslmode") != ["verify-full"]:
        raise StartRefused(f"{setting}: over TCP it must say sslmode=verify-full")


def check_audiences(listeners: ListenersConfig) -> None:
    for name, listener in listeners.named().items():
        if name in ("public", "ops", "inbound") and listener.client_ca_file is not None:
            raise StartRefused(
                f"listeners.{name}: client_ca_file is for private, of_route and callbacks"
            )


def check_connect(connect: ConnectConfig) -> None:
    files = (connect.certificate_file, connect.private_key_file)
    if (files[0] is None) != (files[1] is None):
        raise StartRefused("listeners.connect: a certificate_file needs its private_key_file")
    if files[0] is None and not connect.plain and not _is_loopback(connect.host):
        raise StartRefused(
            "listeners.connect: beyond loopback it needs a certificate_file and private_key_file,"
            " or plain = true, with which API keys cross the network in the clear"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
