"""Lines, and what their leaves commit to."""

import secrets
from datetime import UTC, datetime

import pytest

from tests.vault.ledger.samples import new_actor, new_token, new_uuid
from tests.vault.rows import statement
from vault.db import Connection
from vault.ledger.detail import commitment
from vault.ledger.entry import EntryRefused, TokenCreated, TokenDeleted
from vault.ledger.unit import Statement, committed

SALT = secrets.token_bytes(32)


def created() -> TokenCreated:
    return TokenCreated(
        id=new_uuid(),
        actor=new_actor(),
        tenant="t_01",
        token=new_token(),
        format="opaque",
        key_version=1,
        single_use=False,
    )


def test_a_leaf_commits_to_the_words_that_are_known() -> None:
    line = committed(created(), {"customer_reference": "c_1", "source_address": None}, salt=SALT)
    assert line.detail is not None
    assert line.detail.salt == SALT
    assert line.detail.body == b'{"customer_reference":"c_1"}'
    assert isinstance(line.entry, TokenCreated)
    assert line.entry.detail == commitment(SALT, line.detail.body)


@pytest.mark.parametrize("nothing", [None, "", {}])
def test_words_that_say_nothing_leave_no_detail(nothing: str | dict[str, str] | None) -> None:
    entry = created()
    line = committed(entry, {"customer_reference": nothing, "source_address": None}, salt=SALT)
    assert line.entry is entry
    assert line.detail is None


def test_a_type_without_details_has_none() -> None:
    entry = TokenDeleted(
        id=new_uuid(), actor=new_actor(), tenant="t_01", token=new_token(), reason="request"
    )
    with pytest.raises(EntryRefused):
        committed(entry, {"customer_reference": "c_1"}, salt=SALT)


async def test_a_statement_refuses_nothing_changes_nothing_and_needs_no_database() -> None:
    class NoDatabase:
        """Whoever asks it fails."""

    unit = statement()
    nowhere: Connection = NoDatabase()  # type: ignore[assignment]
    assert await Statement.check(nowhere, [unit], datetime.now(UTC)) == {}
    await Statement.apply(nowhere, [unit], [[]])
    assert not unit.opens_cards
    assert unit.when_abandoned() is None
