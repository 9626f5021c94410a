"""What a witness says without a proof stops nothing, whatever it says."""

import pytest

from tests.gateway.witness.signed_log import SignedLog
from tests.vault.published_logs import publish
from tests.vault.stores import Store
from tests.vault.test_witnessing import Liar, around
from vault.witnessing import HoldsOther, NoExtension, WitnessAnswer

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-75")]


@pytest.mark.parametrize("answers", [(HoldsOther(10**9),), (HoldsOther(5), NoExtension())])
async def test_one_witness_that_lies_cannot_stop_disclosures(
    store: Store, answers: tuple[WitnessAnswer, ...]
) -> None:
    log = SignedLog.of_size(20)
    await publish(store, log, 5, 9)
    story = around(store, Liar(*answers))
    await story.witnesses.show(log.note(9))
    assert story.answers != []
    assert story.sealed == []
