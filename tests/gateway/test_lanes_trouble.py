"""What goes wrong at a route is one tenant's, is found before the intent, and prints nothing."""

import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from gateway import preset as presets
from gateway.addresses import AddressAllow
from gateway.arrival import Arrival
from gateway.breaker import Breaker, Circuit
from gateway.call import Call
from gateway.config import Route
from gateway.errors import CredentialsMissing, UpstreamUnavailable
from gateway.exchange import Failure, Outcome, Phase, Replied, Unknown
from gateway.lanes import Guards, Lane, _Pool
from gateway.limits import CallLimits
from gateway.upstream import Upstream, context_of
from tests.gateway.raw_servers import (
    NAME,
    Certificates,
    Observer,
    at,
    repeating,
    reply,
    route_to,
    serving,
)
from tests.gateway.tls_authority import wanting_certificates
from vault.keys import RevealKeys

CALL = Call("POST", "/v1/refunds", "", [], b"a=b")


class Stored(RevealKeys):
    """Secrets by tenant."""

    def __init__(self, secrets: Mapping[str, Mapping[str, str]]) -> None:
        self.secrets = secrets

    async def processor_secret(self, tenant: str, route: str) -> Mapping[str, str] | None:
        return self.secrets.get(tenant)


class Hanging(Upstream):
    """Gives no answer, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def send(self, method: str, path: str, *_: object) -> Outcome:
        self.asked.append(path)
        return Unknown(Phase.SENT, Failure.TIMEOUT, None)


def route_of(preset: str, host: str = NAME, port: int = 443, **more: object) -> Route:
    settings: dict[str, object] = {
        "name": preset,
        "preset": presets.load(preset),
        "host": host,
        "port": port,
        "credential": "injected",
        "address_allow": AddressAllow.parse(()),
        "ca_file": None,
        "concurrency": 4,
    }
    return Route(**(settings | more))  # type: ignore[arg-type]


def lane_of(route: Route, keys: RevealKeys, upstream: Upstream, breaker: Breaker) -> Lane:
    guards = Guards(CallLimits(time.monotonic), breaker)
    clock = time.monotonic
    return Lane(
        route, lambda _: upstream, keys, guards, now=lambda: datetime.now(UTC), monotonic=clock
    )


def a_breaker() -> Breaker:
    return Breaker(time.monotonic, lambda: 0.5)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_one_tenant_s_bad_certificate_opens_the_circuit_for_nobody(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    certificates = Certificates(tmp_path)
    bad, good = trustme.CA().issue_cert("client"), certificates.ca.issue_cert("client")
    keys = Stored(
        {
            name: {
                "api_key": "k",
                "client_certificate": each.cert_chain_pems[0].bytes().decode(),
                "client_key": each.private_key_pem.bytes().decode(),
            }
            for name, each in (("t_bad", bad), ("t_good", good))
        }
    )
    server_context = wanting_certificates(certificates.ca, version)
    async with serving(repeating(reply(b"{}")), server_context) as server:
        upstream_route = route_to(server.port, certificates)

        def make(pem: tuple[str, str] | None) -> Upstream:
            context = context_of(upstream_route, client_certificate_pem=pem)
            return Upstream(upstream_route, Observer(), context=context, lookup=at("127.0.0.1"))

        breaker = a_breaker()
        lane = Lane(
            route_of("stripe", port=server.port, client_certificate=True),
            make,
            keys,
            Guards(CallLimits(time.monotonic), breaker),
            now=lambda: datetime.now(UTC),
            monotonic=time.monotonic,
        )
        secret = await lane.secret("t_good")
        assert isinstance(await lane.send("t_good", CALL, secret, b"a=b"), Replied)
        secret = await lane.secret("t_bad")
        for _ in range(6):
            with breaker.admitted() as admission:
                outcome = await lane.send("t_bad", CALL, secret, b"a=b")
                assert not isinstance(outcome, Replied)
                lane.heard(admission, outcome)
        await lane.close()
    assert breaker.circuit is Circuit.CLOSED


@pytest.mark.parametrize(
    "values",
    [
        {"user": "id", "secret": "not base64!", "merchant_id": "m"},
        {"user": "id", "secret": "eUJKeHk2TGpNMlRtY1BHdSs="},  # whose merchant?
    ],
    ids=["no secret", "no merchant"],
)
async def test_a_login_that_cannot_sign_is_found_before_the_intent(
    values: Mapping[str, str],
) -> None:
    lane = lane_of(route_of("cybersource"), Stored({"t_1": values}), Hanging(), a_breaker())
    with pytest.raises(CredentialsMissing):
        await lane.secret("t_1")


async def test_an_open_circuit_is_not_asked_for_access_tokens_either() -> None:
    breaker, upstream = a_breaker(), Hanging()
    for _ in range(5):
        breaker.settled(breaker.admit(), ok=False)
    assert breaker.circuit is Circuit.OPEN
    keys = Stored({"t_1": {"user": "u", "api_key": "k"}})
    lane = lane_of(route_of("paypal", "api-m.sandbox.paypal.com"), keys, upstream, breaker)
    for _ in range(3):
        with pytest.raises(UpstreamUnavailable):
            await lane.secret("t_1")
    assert upstream.asked == []


async def test_access_tokens_that_cannot_be_had_open_the_circuit() -> None:
    breaker, upstream = a_breaker(), Hanging()
    keys = Stored({f"t_{n}": {"user": "u", "api_key": "k"} for n in range(6)})
    lane = lane_of(route_of("paypal", "api-m.sandbox.paypal.com"), keys, upstream, breaker)
    for n in range(5):
        with pytest.raises(UpstreamUnavailable):
            await lane.secret(f"t_{n}")
    assert breaker.circuit is Circuit.OPEN


@pytest.mark.guards("T-32")
def test_what_holds_a_secret_prints_none() -> None:
    pool = _Pool(Hanging(), ("CHAIN", "PRIVATE"))
    arrival = Arrival(None, None, "/", "", "pwsk_test_secret")  # type: ignore[arg-type]
    route = route_of("stripe", egress_proxy_login="user:hunter2")
    for each in (pool, arrival, route):
        assert not {"PRIVATE", "pwsk_test", "hunter2"} & {
            word for word in ("PRIVATE", "pwsk_test", "hunter2") if word in repr(each)
        }
