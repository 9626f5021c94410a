"""The last test of a session looks for card numbers in what all the others left behind.

And what tests of crashes share: one deployment whose gateways die.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.crash.captured import PLUGIN, Captured
from tests.crash.stage import Stage, staged
from tests.flows.deployment import Store

LAST = "test_no_card_anywhere.py"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name == LAST)
    if not config.pluginmanager.has_plugin(PLUGIN):
        config.pluginmanager.register(Captured(), PLUGIN)


@pytest.fixture
def captured(pytestconfig: pytest.Config) -> Captured:
    found = pytestconfig.pluginmanager.get_plugin(PLUGIN)
    assert isinstance(found, Captured)
    return found


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Give the deployment of those tests that leave it as they found it, without a gateway."""
    with staged(tmp_path_factory.mktemp("stage") / "deployment") as stage:
        yield stage


@pytest.fixture
async def store(stage: Stage) -> AsyncIterator[Store]:
    """Give a connection to its database, in the gateways' role."""
    connection = await stage.deployment.store()
    yield connection
    await connection.close()
