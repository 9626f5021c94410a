"""One SDK in one mode, at the till of one seller: what the stories about it share."""

import secrets
from typing import Any, Final

import pytest

from tests.cards import VISA_ALT
from tests.flows.dialect import Bill, Dialect, Step, Verdict
from tests.flows.dialects import DIALECTS
from tests.flows.merchant import Merchant
from tests.flows.sdks import ROUTE_OF, Mode, SdkWay
from tests.sdks.driver import Reply

MODES: Final[tuple[Mode, ...]] = ("base", "proxy")
CODE_IS_STORED: Final = "SELECT count(*) FROM cvc WHERE token = $1 AND claimed_by IS NULL"

each_way = pytest.mark.parametrize(
    ("sdk", "mode"), [(sdk, mode) for sdk in DIALECTS for mode in MODES]
)


class Story:
    """An SDK that is pointed somewhere, and the seller whose tokens it pays with."""

    def __init__(self, till: Merchant, sdk: str, way: SdkWay, *, kind: str = "") -> None:
        self.sdk = sdk
        self.dialect: Dialect = DIALECTS[sdk]
        self.way = way
        self.route = ROUTE_OF[sdk] + kind
        self._till = till

    def by(self, way: SdkWay, *, kind: str = "") -> "Story":
        """Give the same SDK, pointed elsewhere."""
        return Story(self._till, self.sdk, way, kind=kind)

    async def card(self, verdict: Verdict = "approved") -> tuple[str, str]:
        """Make a token, and give its id and what this SDK's number field takes."""
        number = self.dialect.numbers.get(verdict, VISA_ALT)
        made = await self._till.tokenize(number, format=self.dialect.format)
        return made["id"], made["pan_like" if self.dialect.format == "pan_like" else "id"]

    def bill(self, number: str, verdict: Verdict = "approved") -> Bill:
        amount = self.dialect.amounts.get(verdict, 1099)
        return Bill(number, f"order-{secrets.token_hex(6)}", amount, verdict)

    async def payment(self, verdict: Verdict = "approved") -> tuple[str, Step]:
        """Make a token, and give it and the call that pays with it."""
        token, number = await self.card(verdict)
        return token, self.dialect.pay(self.bill(number, verdict))

    async def do(self, step: Step, *, key: str | None = None) -> Reply:
        return await self.way(step.call, *step.ids, params=step.params, idempotency_key=key)

    async def record(self, token: str | None = None) -> dict[str, Any]:
        """Give the latest record, of a token's or of all."""
        query = f"?token={token}" if token else "?limit=1"
        found = await self._till.api("GET", f"/v1/authorizations{query}")
        record: dict[str, Any] = found.json()["data"][0]
        assert record["route"] == self.route
        return record
