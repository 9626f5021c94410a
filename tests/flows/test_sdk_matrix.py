"""The same story with each official SDK, by base URL and with panward as its proxy.

A simulated processor takes nothing but a card number in a number field: what is approved was
opened. That no SDK and no log is given a number is asserted by the harness for every call.
"""

import pytest

from tests.cards import VISA_ALT
from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment, Store
from tests.flows.dialect import Step
from tests.flows.dialects import DIALECTS
from tests.flows.merchant import Merchant
from tests.flows.processor import ProcessorControl
from tests.flows.sdk_story import CODE_IS_STORED, MODES, Story, each_way
from tests.flows.sdks import ROUTE_OF
from tests.sdks.driver import Reply

pytestmark = pytest.mark.embedded


@each_way
async def test_a_token_pays(
    story: Story, processor: ProcessorControl, store: Store, deployment: Deployment
) -> None:
    token, number = await story.card()
    bill = story.bill(number)
    before = processor.counts
    reply = await story.do(story.dialect.pay(bill))
    assert (reply.error, story.dialect.word(reply)) == (None, story.dialect.words["approved"])
    assert reply.requests == 1
    after = processor.counts
    assert (after.charges - before.charges, after.requests - before.requests) == (1, 1)
    assert processor.numbers[-1] == VISA_ALT
    came = processor.received[-1]
    assert (came["processor"], came["account"]) == (ROUTE_OF[story.sdk], "acct_1")

    record = await story.record(token)
    assert (record["state"], record["result"], record["kind"]) == (
        "completed",
        "approved",
        "authorize",
    )
    assert (record["tokens"], record["merchant_reference"]) == ([token], bill.reference)
    if story.dialect.currency is not None:
        assert (record["amount"], record["currency"]) == (bill.amount, story.dialect.currency)
    assert record["processor_reference"] == story.dialect.id_of(reply)
    assert record["authorization_code"]
    assert await store.fetchval(CODE_IS_STORED, token) == 0
    intent = record["attempts"][0]["intent"]
    opened = [each for each in deployment.decrypts() if each.startswith(intent)]
    assert len(opened) == 2  # the number and the code, and nothing twice


@each_way
async def test_a_token_is_stored(story: Story, processor: ProcessorControl) -> None:
    token, number = await story.card()
    reply = await story.do(story.dialect.store(story.bill(number)))
    assert reply.error is None, reply
    assert processor.numbers[-1] == VISA_ALT
    record = await story.record(token)
    assert (record["state"], record["result"], record["kind"]) == (
        "completed",
        "stored",
        "store_card",
    )
    assert record["processor_reference"] == story.dialect.id_of(reply)


@each_way
async def test_a_decline_is_told_as_the_sdk_tells_declines(
    story: Story, processor: ProcessorControl
) -> None:
    token, number = await story.card("declined")
    before = processor.counts
    reply = await story.do(story.dialect.pay(story.bill(number, "declined")))
    assert story.dialect.word(reply) == story.dialect.words["declined"]
    assert (processor.counts.declines - before.declines, reply.requests) == (1, 1)
    record = await story.record(token)
    assert (record["state"], record["result"], record["decline_code"]) == (
        "completed",
        "declined",
        story.dialect.decline_code,
    )


@pytest.mark.parametrize(
    ("sdk", "mode"),
    [(sdk, mode) for sdk, each in DIALECTS.items() if "pending" in each.words for mode in MODES],
)
async def test_what_is_not_decided_yet_leaves_the_code_for_another_time(
    story: Story, store: Store
) -> None:
    token, number = await story.card("pending")
    reply = await story.do(story.dialect.pay(story.bill(number, "pending")))
    assert (reply.error, story.dialect.word(reply)) == (None, story.dialect.words["pending"])
    record = await story.record(token)
    assert (record["state"], record["result"]) == ("completed", "pending")
    assert await store.fetchval(CODE_IS_STORED, token) == 1


@each_way
async def test_what_follows_a_payment(story: Story, processor: ProcessorControl) -> None:
    """Capture, void and refund are on record; a call that only asks is not."""
    dialect, before = story.dialect, processor.counts
    bill, other = [story.bill((await story.card())[1]) for _ in range(2)]
    kinds = []

    async def done(step: Step) -> Reply:
        reply = await story.do(step)
        assert reply.error is None, reply
        record = await story.record()
        kinds.append((record["kind"], record["result"], record["tokens"]))
        return reply

    paid = dialect.id_of(await story.do(dialect.pay(bill)))
    captured = dialect.id_of(await done(dialect.capture(paid, bill)))
    last = await story.record()
    looked = await story.do(dialect.look(paid, bill))
    assert looked.error is None, looked
    assert await story.record() == last
    held = dialect.id_of(await story.do(dialect.pay(other)))
    await done(dialect.void(held, other))
    await done(dialect.refund(paid, captured, bill))
    capture, void, refund = dialect.results
    assert kinds == [("capture", capture, []), ("void", void, []), ("refund", refund, [])]
    after = processor.counts
    done_there = (after.captures, after.cancels, after.refunds)
    assert done_there == (before.captures + 1, before.cancels + 1, before.refunds + 1)


@each_way
@pytest.mark.guards("T-41")
async def test_a_token_in_a_text_field_stays_one(story: Story, processor: ProcessorControl) -> None:
    token, number = await story.card()
    step = story.dialect.pay(story.bill(number)).with_field(story.dialect.text, token)
    reply = await story.do(step)
    assert story.dialect.word(reply) == story.dialect.words["approved"]
    assert processor.numbers[-1] == VISA_ALT


# --- refused ------------------------------------------------------------------------------


@each_way
async def test_what_must_not_be_sent_is_the_sdks_own_error(
    story: Story, till: Merchant, other_shop: Merchant, nothing_happens: Witness
) -> None:
    """A number, tokens that are nobody's, another's, deleted or misplaced: no retry, no trace."""
    dialect = story.dialect
    token, number = await story.card()
    foreign = await other_shop.tokenize(VISA_ALT, format=dialect.format)
    gone, gone_number = await story.card()
    assert (await till.api("DELETE", f"/v1/tokens/{gone}")).status == 204
    named = "pan_like" if dialect.format == "pan_like" else "id"
    made_up = "99" + "1" * 13 + "0"
    cases = {
        "raw_card_number": dialect.pay(story.bill(VISA_ALT)),
        "token_unknown, foreign": dialect.pay(story.bill(foreign[named])),
        "token_unknown, deleted": dialect.pay(story.bill(gone_number)),
        "token_unknown, made up": dialect.pay(story.bill(made_up)),
        "token_undeclared": dialect.pay(story.bill(number)).with_field(dialect.misplaced, token),
    }
    async with nothing_happens():
        for case, step in cases.items():
            reply = await story.do(step)
            expected = dialect.no(case.partition(",")[0], 422)
            assert (case, dialect.told(reply)) == (case, expected)
            assert (case, reply.requests) == (case, 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sdk", [sdk for sdk, each in DIALECTS.items() if each.format == "opaque"])
async def test_a_pan_like_name_is_as_good_where_a_number_stands(
    story: Story, till: Merchant, processor: ProcessorControl
) -> None:
    """Only there: elsewhere digits may be anything, and pass."""
    made = await till.tokenize(VISA_ALT, format="pan_like")
    reply = await story.do(story.dialect.pay(story.bill(made["pan_like"])))
    assert story.dialect.word(reply) == story.dialect.words["approved"]
    assert processor.numbers[-1] == VISA_ALT
    assert (await story.record(made["id"]))["tokens"] == [made["id"]]
