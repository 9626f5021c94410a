"""What all tests may share: one real embedded deployment, and a database for each test."""

import re
from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest
from hypothesis import HealthCheck, settings

from tests.databases import Database, fresh_database
from tests.embedded_process import EmbeddedProcess
from vault.embedded.bootstrap import EmbeddedParts

_CARD_LIKE = re.compile(r"[0-9](?:[^0-9A-Za-z]?[0-9]){11,}")
_NUMBERS = count()
LONG = 100
"""Longer text is in no name: pytest numbers it (`parametrize_long_str_id_strategy = "short"`)."""


# How fast cases are made says nothing about what is tested: a busy machine is no finding.
settings.register_profile(
    "panward", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("panward")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Keep card numbers out of the names of tests: they are in every report.

    Only what pytest would print is looked at: the text of any other object (an address, a random
    id) may look like a card in one process and not in the next, and both must count alike.
    """
    if not isinstance(val, str | bytes | int | float | re.Pattern):
        return None
    if isinstance(val, str | bytes) and len(val) > LONG:
        return None
    text = val.decode("latin-1") if isinstance(val, bytes) else str(val)
    return f"{argname}_{next(_NUMBERS)}" if _CARD_LIKE.search(text) else None


@pytest.fixture(scope="session")
def embedded_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedProcess]:
    """Give the process that runs it; whoever stops or seals a child starts it again."""
    process = EmbeddedProcess.started(tmp_path_factory.mktemp("embedded"))
    process.do("allow createdb")
    yield process
    process.close()


@pytest.fixture(scope="session")
def embedded(embedded_process: EmbeddedProcess) -> EmbeddedParts:
    return embedded_process.parts


@pytest.fixture
async def database(embedded: EmbeddedParts) -> AsyncIterator[Database]:
    """Give a new, empty database, which is gone after the test."""
    async with fresh_database(embedded) as made:
        yield made
