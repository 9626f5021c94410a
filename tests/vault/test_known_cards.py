"""Whether a number is a card of a tenant's: asked with real hashes, of real rows."""

import pytest

from tests import cards
from tests.vault.card_custody import Custody
from tests.vault.keyrings import tokenize_keys
from tests.vault.places import place_of_openbao
from tests.vault.rows import new_tenant
from vault.embedded.bootstrap import EmbeddedParts
from vault.known_cards import NUMBERS_MAX, KnownCards
from vault.pan import Pan

pytestmark = pytest.mark.embedded


async def test_only_a_tenant_s_own_cards_are_known(
    custody: Custody, embedded: EmbeddedParts
) -> None:
    row = await custody.token()
    visa, other = Pan.parse(cards.VISA), Pan.parse(cards.MASTERCARD)
    async with place_of_openbao(embedded).transit("tokenize") as transit:
        known = KnownCards(custody.store.database, tokenize_keys(transit))
        assert await known(custody.tenant, [other, visa]) == [False, True]
        assert await known(new_tenant(), [visa]) == [False], "another tenant's"
        many = [other] * (NUMBERS_MAX + 2)
        assert await known(custody.tenant, many) == [False] * NUMBERS_MAX + [True] * 2
        await custody.erase(row)
        assert await known(custody.tenant, [visa]) == [False], "erased"
        assert await known(custody.tenant, []) == []
