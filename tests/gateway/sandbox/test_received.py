"""What is remembered of the calls received."""

import pytest

from gateway.sandbox.params import Params
from gateway.sandbox.received import Memory, Received, masked
from tests.cards import VISA
from tests.gateway.sandbox.harness import NOW

PARAMS = Params([("card[number]", VISA), ("card[cvc]", "987"), ("description", "socks")])


def received(memory: Memory) -> Received:
    return Received(
        at=NOW,
        method="POST",
        path="/v1/tokens",
        account="acct_1",
        idempotency_key=None,
        masked=masked(PARAMS),
        params=memory.kept_of(PARAMS),
    )


def test_masked() -> None:
    assert masked(PARAMS) == {"card[number]": f"•••• {VISA[-4:]}", "card[cvc]": "•••"}
    assert masked(Params([("number", "pwt_secret")])) == {
        "number": "not a card number (10 characters)"
    }


def test_in_full_only_when_told() -> None:
    memory = Memory(remember_numbers=True)
    memory.add(received(memory), PARAMS)
    assert memory.numbers_in_full() == (VISA,)
    assert memory.calls[0].params == {
        "card[number]": VISA,
        "card[cvc]": "987",
        "description": "socks",
    }
    assert VISA not in repr(memory.calls)


def test_masked_when_not_told() -> None:
    memory = Memory(remember_numbers=False)
    memory.add(received(memory), PARAMS)
    assert memory.calls[0].params is None
    assert not memory._numbers
    with pytest.raises(RuntimeError):
        memory.numbers_in_full()


def test_forgets() -> None:
    memory = Memory(remember_numbers=True)
    memory.add(received(memory), PARAMS)
    memory.forget()
    assert (memory.calls, memory.numbers_in_full()) == ((), ())
