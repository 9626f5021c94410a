"""The tables whose rows follow from the ledger: which columns do, and how a row is compared.

What never may live here: what the entries say (`vault/ledger/states.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from vault.db import Record
from vault.intent_table import LEASE
from vault.ledger.states import Request, Send


@dataclass(frozen=True, slots=True)
class DerivedTable:
    """A table, and its columns that entries tell; all SQL is made of these names."""

    name: str
    key: str
    columns: tuple[str, ...]
    is_told: str  # of a row `r`: whether an entry speaks of it
    made: Mapping[str, str] = field(default_factory=dict)  # what only a new row gets

    @property
    def read(self) -> str:
        """Rows of these keys."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name} WHERE {self.key} = ANY($1)"  # noqa: S608 - ours

    @property
    def page(self) -> str:
        """The next keys, and whether an entry speaks of their rows."""
        return (
            f"SELECT {self.key} AS id, {self.is_told} AS is_told FROM {self.name} r"  # noqa: S608
            f" WHERE $1::uuid IS NULL OR {self.key} > $1 ORDER BY {self.key} LIMIT $2"
        )

    @property
    def delete(self) -> str:
        """Those rows of these keys of which no entry speaks."""
        return f"DELETE FROM {self.name} r WHERE {self.key} = ANY($1) AND NOT {self.is_told}"  # noqa: S608

    @property
    def write(self) -> str:
        """One row, new or in the place of what is there."""
        names = ", ".join(self.columns)
        values = [f"${number}" for number in range(1, len(self.columns) + 1)]
        return (
            f"INSERT INTO {self.name} ({', '.join((*self.columns, *self.made))})"  # noqa: S608
            f" VALUES ({', '.join((*values, *self.made.values()))})"
            f" ON CONFLICT ({self.key}) DO UPDATE SET ({names})"
            f" = ROW({', '.join(f'excluded.{column}' for column in self.columns)})"
        )


_INTENT: Final = "SELECT 1 FROM entry e WHERE e.type = 'authorization.attempted' AND e.id ="
_IS_FIRST: Final = """position('"of":"'::bytea IN e.body) = 0"""  # no leaf has free text

_SEND_COLUMNS: Final = (
    *("intent", "first", "attempt", "tenant", "route", "tokens", "opens_cvc", "state"),
    *("result", "finding", "status", "phase", "reason", "opened_idx", "last_idx"),
    *("replica", "boot", "opened_at", "ended_at"),
)
SENDS: Final = DerivedTable(
    name="intent_state",
    key="intent",
    columns=_SEND_COLUMNS,
    is_told=f"EXISTS ({_INTENT} r.intent)",
    made={
        "due": f"${_SEND_COLUMNS.index('opened_at') + 1}::timestamptz"
        f" + interval '{LEASE.total_seconds():.0f} seconds'"
    },
)
REQUESTS: Final = DerivedTable(
    name="authorizations",
    key="first",
    columns=(
        *("first", "tenant", "route", "operation", "kind", "tokens", "state", "result"),
        *("amount", "currency", "merchant_reference", "key_digest", "processor_reference"),
        *("decline_code", "authorization_code", "idx", "leaf", "created_at", "updated_at"),
    ),
    is_told=f"EXISTS ({_INTENT} r.first AND {_IS_FIRST})",
)
FIRSTS: Final = f"""
SELECT idx, id FROM entry e WHERE idx > $1 AND idx < $2 AND type = 'authorization.attempted'
  AND {_IS_FIRST} ORDER BY idx LIMIT $3
"""  # noqa: S608 - ours
"""Intents that begin a request, in index order."""


def row_of(
    table: DerivedTable, told: Send | Request, row: Record | None
) -> tuple[list[object], set[str]]:
    """Return the row as it must be, and the columns in which what is stored is another."""
    values: list[object] = []
    differ: set[str] = set()
    for column in table.columns:
        value: object = getattr(told, column)
        if row is None:
            differ.add(column)
        elif column in told.untold or _comparable(row[column]) == _comparable(value):
            value = row[column]  # what is not told, and a time's microseconds, stay
        else:
            differ.add(column)
        values.append(value)
    return values, differ


def _comparable(value: object) -> object:
    """A value as entries have it: ids are text, times have milliseconds, "" says nothing."""
    match value:
        case UUID():
            return str(value)
        case datetime():
            return value.replace(microsecond=value.microsecond // 1000 * 1000)
        case "":
            return None
        case _:
            return value
