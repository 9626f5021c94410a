"""What is remembered of the calls received."""

import pytest

from gateway.sandbox.params import FORM
from gateway.sandbox.received import Memory, Received, masked
from gateway.sandbox.wire import WireCall
from tests.cards import AMEX, VISA
from tests.gateway.sandbox.harness import NOW


def call(body: str, content_type: str = f"{FORM}; charset=utf-8") -> WireCall:
    return WireCall("POST", "/v1/tokens", "", {"content-type": content_type}, body.encode())


CALL = call(f"card[number]={VISA}&card[cvc]=987&description=socks")


def received(memory: Memory) -> Received:
    return Received(
        at=NOW,
        processor="stripe",
        method="POST",
        path="/v1/tokens",
        account="acct_1",
        idempotency_key=None,
        masked=masked(CALL, [VISA]),
        sent=memory.kept_of(CALL),
    )


def test_masked() -> None:
    assert masked(CALL, [VISA]) == {"card[number]": f"•••• {VISA[-4:]}", "card[cvc]": "•••"}
    assert masked(call("number=pwt_secret"), ["pwt_secret"]) == {
        "number": "not a card number (10 characters)"
    }
    assert masked(call("a=%FF"), []) == {}


@pytest.mark.parametrize("content_type", ["application/json", "text/xml", ""])
def test_masked_where_fields_have_no_known_names(content_type: str) -> None:
    body = call(f"{VISA} {AMEX} pwt_secret", content_type)
    assert masked(body, [VISA, AMEX, "pwt_secret"]) == {
        "number 1": f"•••• {VISA[-4:]}",
        "number 2": f"•••• {AMEX[-4:]}",
        "number 3": "not a card number (10 characters)",
    }


def test_in_full_only_when_told() -> None:
    memory = Memory(remember_numbers=True)
    memory.add(received(memory), [VISA])
    assert memory.numbers_in_full() == (VISA,)
    assert memory.calls[0].sent is CALL
    assert VISA not in repr(memory.calls)


def test_masked_when_not_told() -> None:
    memory = Memory(remember_numbers=False)
    memory.add(received(memory), [VISA])
    assert memory.calls[0].sent is None
    assert not memory._numbers
    with pytest.raises(RuntimeError):
        memory.numbers_in_full()


def test_forgets() -> None:
    memory = Memory(remember_numbers=True)
    memory.add(received(memory), [VISA])
    memory.forget()
    assert (memory.calls, memory.numbers_in_full()) == ((), ())
