"""What the writer's own connection asks of PostgreSQL."""

import secrets
from contextlib import nullcontext
from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import pytest

from tests.vault.ledger.test_store import stays_well
from tests.vault.rows import (
    Sender,
    change,
    create,
    delete,
    new_cvc,
    new_fingerprint,
    statement,
)
from tests.vault.stores import Replica, Store
from vault.authorization import Result, State
from vault.claim_table import ClaimHold
from vault.errors import CustodyError
from vault.intent_table import ClaimLost, SealedAnswer
from vault.ledger.unit import Unit
from vault.token_table import PanLikeTaken, TokenExists

pytestmark = pytest.mark.embedded

ROWS = 20_000

MANY_ROWS = """
INSERT INTO token (id, tenant, format, brand, pan_length, last4, exp_month, exp_year, ciphertext,
  key_version, fingerprint, reusable, single_use, held_by, created_at)
SELECT 'many_' || n, 't_many', 'opaque', 'visa', 16, '0000', 1, 2040, 'c', 1, 'many_' || n, true,
  n % 2 = 0, gen_random_uuid(), now() FROM generate_series(1, $1) n;
INSERT INTO fingerprint SELECT 'many_' || n, 't_many', 1, sha256(n::text::bytea)
FROM generate_series(1, $1) n;
INSERT INTO cvc SELECT 'many_' || n, 't_many', 'c', 1, now() + interval '1 h', gen_random_uuid()
FROM generate_series(1, $1) n;
INSERT INTO claim (tenant, route, key_digest, body_digest, nonce, lease_until, created_at)
SELECT 't_many', 'r', sha256(n::text::bytea), sha256(''), gen_random_uuid(), now(), now()
FROM generate_series(1, $1) n;
INSERT INTO intent_state (intent, first, attempt, tenant, route, tokens, opens_cvc, state,
  opened_idx, last_idx, replica, boot, due, opened_at)
SELECT gen_random_uuid(), gen_random_uuid(), 1, 't_many', 'r', ARRAY['many_' || n], false,
  'completed', 0, 0, 'r', gen_random_uuid(), now(), now() FROM generate_series(1, $1) n;
INSERT INTO authorizations (first, tenant, route, operation, kind, tokens, state, idx, leaf,
  created_at, updated_at)
SELECT gen_random_uuid(), 't_many', 'r', 'o', 'k', ARRAY['many_' || n], 'attempted', 0, '', now(),
  now() FROM generate_series(1, $1) n;
INSERT INTO answer SELECT gen_random_uuid(), 't_many', 'c', 1, now()
FROM generate_series(1, $1) n;
"""

READ = """
SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname <> 'head')
  + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname <> 'head')
"""


async def everything(store: Store, replica: Replica) -> None:
    """Let each statement of each kind of unit be asked at least once."""
    sender = Sender(replica=replica.name, boot=replica.boot)
    value = new_fingerprint()
    reusable = sender.row(reusable=True, pan_like=secrets.token_hex(8))
    single = sender.row(single_use=True)
    hold = ClaimHold(sender.tenant, "stripe", secrets.token_bytes(32), str(uuid4()))
    await store.do(
        "INSERT INTO claim (tenant, route, key_digest, body_digest, nonce, lease_until,"
        " created_at) VALUES ($1, $2, $3, sha256(''), $4, now(), now())",
        *(hold.tenant, hold.route, hold.key_digest, hold.nonce),
    )
    one = sender.opens(reusable, single, cvc=True, hold=hold)
    two = sender.opens(reusable, single, cvc=True)
    three = sender.opens(hold=replace(hold, nonce=str(uuid4())))
    approved = sender.settles(two, State.COMPLETED, Result.APPROVED, burned=[single])
    units: list[tuple[Unit, type[CustodyError] | None]] = [
        (statement(), None),
        (create(reusable, value, new_cvc()), None),
        (create(replace(reusable, id="other", pan_like=None), value), TokenExists),
        (create(replace(sender.row(), pan_like=reusable.pan_like)), PanLikeTaken),
        (create(single, cvc=new_cvc()), None),
        (change(reusable, exp_month=1), None),
        (one, None),
        (sender.settles(one, State.NOT_SENT), None),
        (three, ClaimLost),
        (two, None),
        (replace(approved, answer=SealedAnswer(sender.tenant, "c", 1)), None),
        (delete(reusable), None),
    ]
    for unit, refused in units:
        expected = pytest.raises(refused) if refused else nullcontext()
        with expected:
            await replica.ledger.append(unit, seconds=10)


async def test_the_writer_reads_by_key_however_many_rows_there_are(store: Store) -> None:
    """Also when they have come since it made its plans, a moment ago."""
    async with store.replica() as replica:
        for _ in range(3):
            await everything(store, replica)
        for part in MANY_ROWS.split(";")[:-1]:
            await store.do(part, ROWS)
        replica.ledger._line._plans_end = 0  # the moment is over
        for _ in range(3):
            await everything(store, replica)
        replica.ledger._line.drop()
        await store.until(
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'panward'"
            " AND datname = current_database() AND query LIKE '%head%'"
        )
        read = await store.value(READ)
        assert isinstance(read, Decimal)
        assert 20 < read < ROWS / 2
        await stays_well(store, replica)
