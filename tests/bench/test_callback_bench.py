"""What the bench posts in a processor's name, and what it makes of a queue that was drained."""

from pathlib import Path

import msgspec
import pytest
import trustme

from bench import callback_posts, deliveries
from bench.asked import ASKED, CALLBACKS_PER_SECOND, Asking
from bench.open_loop import HEAD_END, Generator, Plan, content_length
from gateway import preset as presets
from gateway.callback_events import CallbackEvent, read_events
from gateway.custody import utc_now
from gateway.signatures import SCHEMES, Genuine, Posted, Secrets, verified
from vault.payment_events import Effect

SCHEME = SCHEMES[callback_posts.ROUTE]
REFERENCES = ["pi_one", "pi_two"]
COUNT = 16


def posted() -> list[tuple[tuple[tuple[str, str], ...], bytes]]:
    """Header and body of each post, as the load reads them."""
    found: list[tuple[tuple[tuple[str, str], ...], bytes]] = []
    for line in callback_posts.posts(REFERENCES, COUNT, utc_now()):
        signature, tab, body = line.removesuffix(b"\n").partition(b"\t")
        assert tab
        assert b"\n" not in body
        headers = ("Content-Type", "application/json"), ("Stripe-Signature", signature.decode())
        found.append((headers, body))
    return found


def events() -> list[CallbackEvent]:
    rules = presets.load("stripe").callbacks
    assert rules is not None
    return [
        event for headers, body in posted() for event in read_events(rules, SCHEME, headers, body)
    ]


def test_what_is_posted_proves_itself() -> None:
    secrets = Secrets.of({"key.1": callback_posts.SECRET})
    for headers, body in posted():
        said = verified(SCHEME, Posted(headers, body, ""), secrets, at=utc_now())
        assert said == Genuine(is_signed=True)


def test_no_event_is_posted_twice_and_half_are_of_payments_on_record() -> None:
    found = events()
    assert len({event.event_id for event in found}) == COUNT
    known = [event for event in found if event.action_reference in REFERENCES]
    assert len(known) == COUNT / 2
    assert {event.effect for event in known} == {Effect.CAPTURED}
    assert sum(event.effect is None for event in found) == COUNT / 4


def plan(**changes: object) -> Plan:
    made = Plan(
        port=8,
        ca_file="",
        path="/callbacks/cbe_x",
        key="",
        tokens_file="",
        start=0,
        seed="",
        exp_year=2031,
        per_second=1.0,
        seconds=1.0,
    )
    return msgspec.structs.replace(made, **changes)


def test_a_post_of_the_file_is_a_whole_request(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    file = tmp_path / "posts"
    file.write_bytes(b"t=1,v1=aa\t{}\nt=2,v1=bb\t[1]\n")
    generator = Generator(plan(posts_file=str(file), ca_file=str(authority), connections=2))
    head, end, body = generator._request(1).partition(HEAD_END)
    assert (end, body) == (HEAD_END, b"[1]")
    assert head.startswith(b"POST /callbacks/cbe_x HTTP/1.1\r\nHost: 127.0.0.1:8\r\n")
    assert b"\r\nStripe-Signature: t=2,v1=bb" in head
    assert content_length(head + end) == 3
    assert generator._request(2) == generator._request(0)


def test_callbacks_come_by_the_public_listener_at_their_own_rate() -> None:
    (steady,) = (each for each in ASKED if each.name == "callback.steady")
    assert steady.per_second == CALLBACKS_PER_SECOND
    for each in ASKED:
        assert (each.listener == "public") == (each.asking is Asking.CALLBACK)


def test_what_the_dead_cost_is_told_for_each_of_the_others() -> None:
    without = {"0": 2.0, "1": 4.0, "2": 2.0}
    beside = {"0": 2.2, "1": 4.0, "2": 4.0}
    found = deliveries.figures(without, beside, 400)
    assert found["deliveries.drained"] == found["deliveries.drained.alone"] == 100.0
    assert found["deliveries.slower"] == pytest.approx(1.1)
    assert found["deliveries.slowest"] == 2.0
    assert found["deliveries.made"] == 800 + 3 * deliveries.WARM_UP
