"""The steps from a processor's post to a merchant's answer, by name; nothing else lives here."""

from enum import StrEnum


class Step(StrEnum):
    """C: a callback is received; T: it is told of; D: it is delivered. Each was just taken."""

    FOUND = "C1"  # the endpoint, by the id in the URL
    PROVEN = "C2"
    READ = "C3"  # scrubbed, and its events are known
    DECIDED = "C4"  # looked up what it means; about to append
    INSERTED = "C5"  # about to COMMIT
    COMMITTING = "C6"  # COMMIT has left, nobody knows whether it has arrived
    COMMITTED = "C7"  # nobody has heard of it yet
    ANSWERING = "C8"  # about to answer the processor
    QUEUED = "T1"  # deliveries are made; about to COMMIT
    TOLD = "T2"
    CLAIMED = "D1"
    POSTING = "D2"  # about to connect and send
    ANSWERED = "D3"  # the merchant has it, and said so
    SETTLING = "D4"  # about to COMMIT that
    SETTLED = "D5"
