"""No address that a processor cannot have is dialed, and a host has one spelling."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import (
    AddressAllow,
    AddressAllowRefused,
    Denial,
    Host,
    HostRefused,
    checked_host,
    forbidden,
    own_addresses,
)

LOOPBACK = AddressAllow.parse(["127.0.0.1/32"])


@pytest.mark.guards("T-44")
@pytest.mark.parametrize(
    ("address", "denial"),
    [
        ("0.0.0.0", Denial.RESERVED),  # noqa: S104 - what must not be dialed
        ("0.1.2.3", Denial.RESERVED),
        ("10.0.0.1", Denial.PRIVATE),
        ("10.255.255.255", Denial.PRIVATE),
        ("100.64.0.1", Denial.PRIVATE),
        ("100.127.255.255", Denial.PRIVATE),
        ("127.0.0.1", Denial.LOOPBACK),
        ("127.255.255.254", Denial.LOOPBACK),
        ("169.254.0.1", Denial.LINK_LOCAL),
        ("169.254.169.254", Denial.LINK_LOCAL),
        ("172.16.0.1", Denial.PRIVATE),
        ("172.31.255.255", Denial.PRIVATE),
        ("192.0.0.8", Denial.RESERVED),
        ("192.0.0.9", Denial.RESERVED),
        ("192.0.0.170", Denial.RESERVED),
        ("192.0.2.1", Denial.NOT_GLOBAL),
        ("192.88.99.1", Denial.TRANSLATED),
        ("192.168.1.1", Denial.PRIVATE),
        ("198.18.0.1", Denial.NOT_GLOBAL),
        ("198.51.100.1", Denial.NOT_GLOBAL),
        ("203.0.113.1", Denial.NOT_GLOBAL),
        ("224.0.0.1", Denial.MULTICAST),
        ("239.255.255.255", Denial.MULTICAST),
        ("240.0.0.1", Denial.RESERVED),
        ("255.255.255.255", Denial.RESERVED),
        ("::", Denial.RESERVED),
        ("::1", Denial.LOOPBACK),
        ("::127.0.0.1", Denial.TRANSLATED),
        ("::8.8.8.8", Denial.TRANSLATED),
        ("::ffff:127.0.0.1", Denial.TRANSLATED),
        ("::ffff:7f00:1", Denial.TRANSLATED),
        ("::ffff:169.254.169.254", Denial.TRANSLATED),
        ("::ffff:8.8.8.8", Denial.TRANSLATED),
        ("::ffff:0:127.0.0.1", Denial.TRANSLATED),
        ("64:ff9b::7f00:1", Denial.TRANSLATED),
        ("64:ff9b::8.8.8.8", Denial.TRANSLATED),
        ("64:ff9b:1::a00:1", Denial.TRANSLATED),
        ("100::1", Denial.NOT_GLOBAL),
        ("2001::1", Denial.TRANSLATED),
        ("2001:10::1", Denial.RESERVED),
        ("2001:20::1", Denial.RESERVED),
        ("2001:db8::1", Denial.RESERVED),
        ("2002:7f00:1::1", Denial.TRANSLATED),
        ("2002:808:808::1", Denial.TRANSLATED),
        ("3fff::1", Denial.RESERVED),
        ("3fff:fff:ffff::1", Denial.RESERVED),
        ("4000::1", Denial.NOT_GLOBAL),
        ("5f00::1", Denial.RESERVED),
        ("fc00::1", Denial.PRIVATE),
        ("fd00:ec2::254", Denial.PRIVATE),
        ("fe80::1", Denial.LINK_LOCAL),
        ("fec0::1", Denial.PRIVATE),
        ("ff02::1", Denial.MULTICAST),
        ("ff0e::1", Denial.MULTICAST),
        ("fe80::1%eth0", Denial.NOT_AN_ADDRESS),
        ("2606:4700::1%eth0", Denial.NOT_AN_ADDRESS),
        ("127.1", Denial.NOT_AN_ADDRESS),
        ("0177.0.0.1", Denial.NOT_AN_ADDRESS),
        ("2130706433", Denial.NOT_AN_ADDRESS),
        ("processor.test", Denial.NOT_AN_ADDRESS),
        ("", Denial.NOT_AN_ADDRESS),
    ],
)
def test_an_address_that_no_processor_has_is_forbidden(address: str, denial: Denial) -> None:
    assert forbidden(address) is denial
    if denial is not Denial.LOOPBACK:
        assert forbidden(address, LOOPBACK) is denial


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.1",
        "192.88.98.255",
        "192.167.255.255",
        "223.255.255.255",
        "2606:4700::1111",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2003::1",
        "2a00:1450::1",
        "3ffe:ffff::1",
    ],
)
def test_a_public_address_is_not(address: str) -> None:
    assert forbidden(address) is None


@pytest.mark.guards("T-44")
@given(st.integers(0, 2**32 - 1))
def test_no_dress_makes_an_ipv4_address_pass(number: int) -> None:
    for prefix in ("::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::"):
        assert forbidden(str(IPv6Address(int(IPv6Address(prefix)) | number))) is not None
    assert forbidden(str(IPv6Address((0x2002 << 112) | (number << 80)))) is not None


@given(st.ip_addresses())
def test_all_that_passes_is_global(address: IPv4Address | IPv6Address) -> None:
    if forbidden(str(address)) is None:
        assert address.is_global
        assert not address.is_multicast
        assert address.version == 4 or int(address) in IPV6_UNICAST


IPV6_UNICAST = range(int(IPv6Address("2000::")), int(IPv6Address("4000::")))


# --- what a route may list ----------------------------------------------------------------


@pytest.mark.guards("T-44")
def test_a_list_permits_exactly_what_is_on_it() -> None:
    allow = AddressAllow.parse(["127.0.0.1/32", "10.1.0.0/16", "fd00:1::/64"])
    for address in ("127.0.0.1", "10.1.0.0", "10.1.255.255", "fd00:1::5", "8.8.8.8"):
        assert forbidden(address, allow) is None
    for address in ("127.0.0.2", "10.0.255.255", "10.2.0.0", "fd00:1:0:1::", "::1"):
        assert forbidden(address, allow) is not None
    for dressed in ("::ffff:127.0.0.1", "::ffff:10.1.0.0", "64:ff9b::10.1.0.0", "::127.0.0.1"):
        assert forbidden(dressed, allow) is Denial.TRANSLATED


@pytest.mark.guards("T-44")
@pytest.mark.parametrize(
    "network",
    [
        "0.0.0.0/0",
        "::/0",
        "8.8.8.8/32",
        "127.0.0.1/8",  # bits of the host set: which was meant?
        "10.0.0.0/7",
        "169.254.169.254/32",
        "169.254.0.0/16",
        "0.0.0.0/8",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::ffff:127.0.0.1/128",
        "64:ff9b::/96",
        "fe80::/10",
        "fe80::1%eth0/128",
        "2001:db8::/32",
        "fc00::/6",
        "localhost",
        "",
        "10.0.0.0/8 ",
        "127.1/32",
    ],
)
def test_a_list_reaches_private_networks_only(network: str) -> None:
    with pytest.raises(AddressAllowRefused) as refused:
        AddressAllow.parse(["127.0.0.1/32", network])
    assert refused.value.__context__ is None


def test_localhost_is_what_the_list_allows_of_it() -> None:
    assert own_addresses(LOOPBACK) == ("127.0.0.1",)
    assert own_addresses(AddressAllow.parse(["::1/128", "127.0.0.0/8"])) == ("127.0.0.1", "::1")
    assert own_addresses(AddressAllow.parse(["10.0.0.0/8"])) == ()


# --- how a host is spelled ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("api.stripe.com", Host("api.stripe.com", 443)),
        ("api.stripe.com:443", Host("api.stripe.com", 443)),
        ("API.Stripe.com:8443", Host("api.stripe.com", 8443)),
        ("xn--bcher-kva.example:65535", Host("xn--bcher-kva.example", 65535)),
        ("1.2.example", Host("1.2.example", 443)),
        ("a-b.c--d.xn--p1ai", Host("a-b.c--d.xn--p1ai", 443)),
        ("127.0.0.1:9443", Host("127.0.0.1", 9443)),
        ("localhost:9443", Host("localhost", 9443)),
    ],
)
def test_a_plain_host_is_read(text: str, host: Host) -> None:
    assert checked_host(text, LOOPBACK) == host


def test_an_ipv6_address_is_read_in_brackets_if_the_route_lists_it() -> None:
    allow = AddressAllow.parse(["::1/128"])
    assert checked_host("[::1]:9443", allow) == Host("::1", 9443)
    assert checked_host("[0:0::0:1]", allow) == Host("::1", 443)
    assert checked_host("localhost", allow) == Host("localhost", 443)
    with pytest.raises(HostRefused):
        checked_host("::1", allow)


SPELLINGS = [
    "",
    " ",
    ".",
    ":443",
    "api.stripe.com:",
    "api.stripe.com:0",
    "api.stripe.com:0443",
    "api.stripe.com:65536",
    "api.stripe.com:99999",
    "api.stripe.com:443443",
    "api.stripe.com:-1",
    "api.stripe.com:+443",
    "api.stripe.com:https",
    "api.stripe.com:443:443",
    "api.stripe.com: 443",
    "api.stripe.com:\u0664\u0664\u0663",
    "api.stripe.com.",
    "api.stripe.com.:443",
    "api..stripe.com",
    ".api.stripe.com",
    "api.stripe.com/",
    "api.stripe.com/v1",
    "api.stripe.com\\@evil.test",
    "api.stripe.com?x",
    "api.stripe.com#x",
    "https://api.stripe.com",
    "//api.stripe.com",
    "user@api.stripe.com",
    "user:pass@api.stripe.com",
    "api.stripe.com@evil.test",
    "api.stripe.com%2eevil.test",
    "api.stripe.com%00.evil.test",
    "api.stripe.com\x00",
    "api.stripe.com\n",
    "api.stripe.com\r\nHost: evil.test",
    "\tapi.stripe.com",
    "api stripe.com",
    "api_1.stripe.com",
    "-api.stripe.com",
    "api-.stripe.com",
    "ab--cd.stripe.com",
    f"{'a' * 64}.stripe.com",
    f"{'a.' * 126}com",
    "stripe",
    "com",
    "api.stripe.1",
    "api.stripe.c",
    "api.stripe.0x7f",
    "\uff41pi.stripe.com",
    "api\u3002stripe\uff0ecom",
    "b\u00fccher.example",
    "\u2460.stripe.com",
    "8.8.8.8",
    "1.1.1.1:443",
    "10.0.0.1",
    "127.0.0.2",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "0177.0.0.1",
    "127.0.0.01",
    "0x7f.0.0.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0",
    "0.0.0.0",  # noqa: S104 - a spelling to refuse
    "169.254.169.254",
    "[::1]",
    "::1",
    "[::ffff:127.0.0.1]",
    "[127.0.0.1]",
    "[::1%25lo]",
    "[fe80::1%lo]",
    "[]",
    "[api.stripe.com]",
    "[::1",
    "1.2.3.4.5",
    "localhost.",
    "localhost.localdomain.",
]


@pytest.mark.guards("T-43")
@pytest.mark.parametrize("text", SPELLINGS)
def test_a_spelling_that_could_mean_something_else_is_refused(text: str) -> None:
    with pytest.raises(HostRefused) as refused:
        checked_host(text, LOOPBACK)
    assert refused.value.__context__ is None
    assert str(refused.value) == HostRefused.__doc__


@pytest.mark.guards("T-43")
@pytest.mark.parametrize("text", ["localhost", "localhost:9443", "127.0.0.1", "127.0.0.1:9443"])
def test_the_own_machine_is_refused_unless_the_route_lists_it(text: str) -> None:
    with pytest.raises(HostRefused):
        checked_host(text)
    with pytest.raises(HostRefused):
        checked_host(text, AddressAllow.parse(["10.0.0.0/8"]))


@given(st.text(max_size=40))
def test_what_is_accepted_is_a_name_or_a_listed_address(text: str) -> None:
    try:
        host = checked_host(text, LOOPBACK)
    except HostRefused:
        return
    assert host.name == host.name.lower()
    assert host.name.isascii()
    assert 0 < host.port < 65536
    assert forbidden(host.name, LOOPBACK) in {None, Denial.NOT_AN_ADDRESS}


@given(st.ip_addresses())
def test_no_address_literal_is_accepted_unlisted(address: IPv4Address | IPv6Address) -> None:
    text = str(address) if address.version == 4 else f"[{address}]"
    with pytest.raises(HostRefused):
        checked_host(text)
    assert ip_address(str(address)) == address
