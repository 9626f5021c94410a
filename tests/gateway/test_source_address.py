"""Nobody chooses the address that limits and records know them by."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.source_address import HOPS_MAX, UNKNOWN, network_of, source_of

Networks = list[IPv4Network | IPv6Network]

TRUSTED: Networks = [
    IPv4Network("10.0.0.0/8"),
    IPv6Network("fd00::/8"),
    IPv4Network("203.0.113.7/32"),
]
PROXY, CLIENT = "10.0.0.1", "198.51.100.9"


@pytest.mark.guards("T-06")
@pytest.mark.parametrize("peer", [CLIENT, "127.0.0.1", "2001:db8::9"])
def test_without_a_trusted_proxy_the_peer_it_is(peer: str) -> None:
    assert source_of(peer, ["192.0.2.1"], []) == peer
    assert source_of(peer, ["192.0.2.1", "10.0.0.1"], TRUSTED) == peer
    assert source_of(peer, [], TRUSTED) == peer


@pytest.mark.parametrize(
    ("lines", "source"),
    [
        ([], PROXY),  # a proxy that says nothing: a health check of its own
        ([CLIENT], CLIENT),
        ([f"192.0.2.1, {CLIENT}"], CLIENT),
        (["192.0.2.1", CLIENT], CLIENT),  # each proxy may add a line
        ([CLIENT, "10.0.0.2"], CLIENT),
        ([f"{CLIENT}, 203.0.113.7 ,\t10.0.0.2"], CLIENT),
        ([f"192.0.2.1, {CLIENT}", "fd00::2, 10.0.0.2"], CLIENT),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # a client inside: the farthest of ours
        ([f"::ffff:{CLIENT}"], CLIENT),
        (["::ffff:10.0.0.2".join([f"{CLIENT}, ", ""])], CLIENT),
        ([f"{CLIENT}:51234"], CLIENT),
        (["[2001:db8::9]:51234"], "2001:db8::9"),
        (["[2001:db8::9]"], "2001:db8::9"),
        (["2001:DB8:0::9"], "2001:db8::9"),
        ([f"192.0.2.1, unknown, {CLIENT}, 10.0.0.2"], CLIENT),
        # what cannot be read ends the walk at the last hop that could
        ([f"{CLIENT}, unknown"], PROXY),
        ([f"{CLIENT}, unknown, 10.0.0.2"], "10.0.0.2"),
        ([f"{CLIENT}, , 10.0.0.2"], "10.0.0.2"),
        ([f"{CLIENT},"], PROXY),
        ([""], PROXY),
        ([CLIENT, ""], PROXY),
        ([f"{CLIENT} 10.0.0.2"], PROXY),
        (["_hidden"], PROXY),
        (["fe80::1%eth0"], PROXY),
        ([f'"{CLIENT}"'], PROXY),
        ([f"for={CLIENT}"], PROXY),
        (["010.0.0.1"], PROXY),
        (["3232235777"], PROXY),
        (["[198.51.100.9"], PROXY),
        ([f"{CLIENT}:"], PROXY),
        ([f"{CLIENT}:1:2"], PROXY),
        (["١٩٨.51.100.9"], PROXY),
    ],
)
@pytest.mark.guards("T-06")
def test_behind_trusted_proxies_it_is_the_nearest_hop_that_is_none(
    lines: list[str], source: str
) -> None:
    assert source_of(PROXY, lines, TRUSTED) == source


def test_a_peer_in_ipv6_dress_is_the_ipv4_address() -> None:
    assert source_of(f"::ffff:{CLIENT}", [], []) == CLIENT
    assert source_of(f"::ffff:{PROXY}", [CLIENT], TRUSTED) == CLIENT


@pytest.mark.parametrize("peer", ["", "unix:", "fe80::1%eth0", "host.example", "1.2.3.4:5"])
def test_a_peer_without_an_address_is_unknown_whatever_it_says(peer: str) -> None:
    assert source_of(peer, [CLIENT], [IPv4Network("0.0.0.0/0")]) == UNKNOWN


def test_hops_without_end_are_not_walked() -> None:
    hops = ", ".join([CLIENT, *["10.0.0.9"] * HOPS_MAX])
    assert source_of(PROXY, [hops], TRUSTED) == "10.0.0.9"
    fewer = ", ".join([CLIENT, *["10.0.0.9"] * (HOPS_MAX - 1)])
    assert source_of(PROXY, [fewer], TRUSTED) == CLIENT
    assert source_of(PROXY, ["10.0.0.9", *["10.0.0.9"] * HOPS_MAX], TRUSTED) == "10.0.0.9"


addresses = st.ip_addresses().map(str)
words = st.text(max_size=20) | addresses | st.sampled_from([PROXY, "10.0.0.2", "", ",", "::1"])


def is_outside(text: str) -> bool:
    """Whether it is neither a proxy of ours nor an IPv4 address in IPv6 dress."""
    address = ip_address(text)
    return not any(address in net for net in TRUSTED) and "::ffff" not in text


@pytest.mark.guards("T-06")
@given(
    client=addresses.filter(is_outside),
    words=st.lists(words, max_size=20),
    proxies=st.lists(st.sampled_from(["10.0.0.2", "203.0.113.7", "fd00::3"]), max_size=4),
    glue=st.sampled_from([", ", ",", None]),
)
def test_what_a_client_puts_before_changes_nothing(
    client: str, words: list[str], proxies: list[str], glue: str | None
) -> None:
    seen = ", ".join([client, *proxies])
    lines = [*words, seen] if glue is None else [glue.join([*words, seen])]
    assert source_of(PROXY, lines, TRUSTED) == client == source_of(PROXY, [seen], TRUSTED)


@given(
    peer=st.text(max_size=30) | addresses,
    lines=st.lists(st.text(max_size=60), max_size=5),
    trusted=st.lists(st.ip_addresses().map(lambda one: ip_network(str(one))), max_size=2),
)
def test_whatever_comes_an_address_goes(peer: str, lines: list[str], trusted: Networks) -> None:
    everybody: Networks = [*trusted, IPv4Network("0.0.0.0/0"), IPv6Network("::/0")]
    for networks in (trusted, everybody):
        source = source_of(peer, lines, networks)
        assert source == UNKNOWN or ip_network(source).num_addresses == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.9", "198.51.100.0/24"),
        ("198.51.100.255", "198.51.100.0/24"),
        ("::ffff:198.51.100.9", "198.51.100.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("2001:db8:1:ffff::", "2001:db8:1::/48"),
        ("::1", "::/48"),
        *((bad, UNKNOWN) for bad in ("", UNKNOWN, "fe80::1%eth0", "host", "198.51.100.0/24")),
    ],
)
def test_the_network_is_what_one_party_usually_holds(address: str, network: str) -> None:
    assert network_of(address) == network


@given(st.text(max_size=40))
def test_the_network_of_anything_is_a_network_or_unknown(text: str) -> None:
    network = network_of(text)
    assert network == UNKNOWN or ip_network(network).prefixlen in {24, 48}
