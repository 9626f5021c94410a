"""A listener to what pytest captures of all tests: no card number may be in it.

A test that fails shows what it and the code under it have written, in places where nobody would
look for card data. Names of tests are not looked at here: they are ours, and chosen.
"""

import pytest

from tests.crash.card_search import CardSearch, Hit

PLUGIN = "what pytest captured"


class Captured:
    """Looks through what each test wrote, as its report comes by."""

    def __init__(self) -> None:
        self._search = CardSearch()
        self.hits: list[Hit] = []
        self.reports = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports += 1
        written = "\n".join(text for _, text in report.sections)
        where = f"the output of {report.location[0]}:{report.location[1]}"
        self.hits += self._search.within(written.encode("utf-8", "surrogateescape"), where)
