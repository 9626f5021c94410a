"""Any growth, fork, gap and start again, against a model of what is held and what was signed."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.witness.folder import witness_folder
from gateway.witness.held_checkpoints import Cosigned, HeldCheckpoints
from gateway.witness.identity import Identity
from gateway.witness.judgment import Asked, HeldOther, Refusal, asked
from tests.gateway.witness.signed_log import SignedLog
from vault.ledger.checkpoint import AddCheckpoint, Checkpoint

NAME = "witness.example/w1"
ENTRIES_MAX = 40
sizes = st.integers(0, ENTRIES_MAX)


class Witnessed(RuleBasedStateMachine):
    """Two logs of two keys, each with forks that its owner signs as readily."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.histories: list[list[SignedLog]] = [
            [SignedLog.of_size(ENTRIES_MAX)],
            [SignedLog.of_size(ENTRIES_MAX, origin="ledger.example/2", seed=bytes(32))],
        ]
        self.logs = {each.key.name: (each.key,) for (each,) in self.histories}
        self.model: dict[str, Checkpoint] = {}
        self.signed: dict[str, list[tuple[Checkpoint, SignedLog]]] = {}
        self.opened = ExitStack()
        self.identity: Identity
        self.held: HeldCheckpoints
        self.open()

    def open(self) -> None:
        self.identity, self.held = self.opened.enter_context(witness_folder(self.folder, NAME))

    @rule()
    def start_again(self) -> None:
        self.opened.close()
        self.open()

    @rule(which=st.integers(0, 1), at=sizes)
    def fork(self, which: int, at: int) -> None:
        log = self.histories[which][0]
        self.histories[which].append(log.forked(at, to=ENTRIES_MAX))

    @rule(
        which=st.integers(0, 1),
        history=st.integers(0, 5),
        size=sizes,
        old=st.none() | sizes,
        spoiled=st.booleans(),
    )
    def ask(self, which: int, history: int, size: int, old: int | None, *, spoiled: bool) -> None:
        of_log = self.histories[which]
        log = of_log[history % len(of_log)]
        origin = log.key.name
        held = self.model.get(origin)
        held_size = held.size if held is not None else 0
        old = held_size if old is None else old
        proof = log.proof(old, size) if old <= size else ()
        if spoiled:
            proof = (*proof, bytes(32))
        answer = self.answer(AddCheckpoint(old, proof, log.note(size)))
        if old > size:
            assert answer is Refusal.MALFORMED
        elif old != held_size:
            assert answer == HeldOther(held_size)
        elif spoiled or (held is not None and log.root(old) != held.root):
            assert answer is Refusal.NO_EXTENSION
        else:
            assert isinstance(answer, Cosigned)
            self.model[origin] = log.checkpoint(size)
            self.signed.setdefault(origin, []).append((log.checkpoint(size), log))

    def answer(self, request: AddCheckpoint) -> Cosigned | HeldOther | Refusal:
        asking = asked(request.body, self.logs)
        if not isinstance(asking, Asked):
            return asking
        text = asking.checkpoint.text
        return self.held.add(asking, lambda: self.identity.cosign(text, 7))

    @invariant()
    def all_that_was_signed_is_one_history(self) -> None:
        for signed in self.signed.values():
            (_, last) = signed[-1]
            for checkpoint, _ in signed:
                assert checkpoint.root == last.root(checkpoint.size)
            assert [each.size for each, _ in signed] == sorted(each.size for each, _ in signed)

    def teardown(self) -> None:
        self.opened.close()
        self.stack.close()


TestWitnessed = Witnessed.TestCase
TestWitnessed.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
