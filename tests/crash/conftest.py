"""The last test of a session looks for card numbers in what all the others left behind."""

import pytest

from tests.crash.captured import PLUGIN, Captured

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
