"""`panward authorizations`: an operator's word settles what nothing else could, on record."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from gateway.commands.authorizations import authorizations as command_group
from gateway.embedded import ORIGIN
from tests.crash.panward import Ended
from tests.gateway.commands.conftest import Command
from tests.vault.ledger.samples import new_hash, new_uuid
from tests.vault.places import place_of_openbao
from tests.vault.rows import Sender
from tests.vault.stores import Store
from vault.authorization import State
from vault.deployment import Boot, put_start_on_record
from vault.doubt_table import DoubtTable
from vault.embedded.bootstrap import EmbeddedParts
from vault.ids import authorization_id
from vault.intent_table import OpenIntent
from vault.ledger.entry import AuthorizationResolved
from vault.resolutions import STATEMENT_CHARACTERS_MAX

pytestmark = [pytest.mark.embedded, pytest.mark.guards("F-23", "F-40")]

WORD = "The back office of the processor shows it as captured."


@dataclass
class Desk:
    """An operator's command line on the test's own database, with one call in doubt."""

    store: Store
    command: Command
    opened: OpenIntent

    @property
    def id(self) -> str:
        return authorization_id(self.opened.facts.first)

    async def resolve(self, *words: str, stdin: bytes = b"", statement: str = WORD) -> Ended:
        return await self.command(
            "authorizations", "resolve", self.id, "--statement", statement, *words, stdin=stdin
        )

    async def resolved(self) -> list[AuthorizationResolved]:
        found = await self.store.entries("authorization.resolved")
        return [entry for entry in found if isinstance(entry, AuthorizationResolved)]


@pytest.fixture
async def desk(store: Store, command: Command, embedded: EmbeddedParts) -> AsyncIterator[Desk]:
    """Give a log that names the deployment's own key: a command writes to no other."""
    async with place_of_openbao(embedded).transit("reveal") as transit:
        public_key = await transit.public_key("ledger")
    async with store.replica(start=False) as replica:
        boot = Boot(replica.boot, replica.name, "0.1.0", new_hash())
        await put_start_on_record(
            store.database, replica.ledger, boot, env="test", origin=ORIGIN,
            public_key=public_key, now=store.clock,
        )  # fmt: skip
        sender = Sender(replica=replica.name, boot=replica.boot)
        opened = sender.opens(merchant_reference="order-1")
        await replica.ledger.append(opened)
        await replica.ledger.append(sender.settles(opened, State.UNKNOWN))
        yield Desk(store, command, opened)
        assert (await store.report()).violations == ()


@pytest.mark.guards("T-75")
async def test_nothing_is_written_to_a_log_that_is_not_this_deployments(
    store: Store, command: Command
) -> None:
    async with store.replica() as replica:  # whose entry 0 names another key
        sender = Sender(replica=replica.name, boot=replica.boot)
        opened = sender.opens(merchant_reference="order-1")
        await replica.ledger.append(opened)
        await replica.ledger.append(sender.settles(opened, State.UNKNOWN))
        size = await store.count("entry")
        desk = Desk(store, command, opened)
        done = await desk.resolve("--finding", "answered", "--result", "approved", "--yes")
        assert done.status == 78
        assert await store.count("entry") == size


async def test_what_is_in_doubt_is_listed(desk: Desk) -> None:
    done = await desk.command("authorizations", "list", "--open", "--json")
    assert done.status == 0, done.err
    (line,) = done.out.splitlines()
    shown = json.loads(line)
    assert (shown["id"], shown["merchant_reference"], shown["looks"]) == (desk.id, "order-1", 0)
    assert (shown["amount"], shown["currency"], shown["attempts_in_doubt"]) == (1999, "EUR", 1)
    assert shown["given_up_at"] > shown["since"]
    plain = await desk.command("authorizations", "list", "--open")
    assert "order-1" in plain.out
    assert (await desk.command("authorizations", "list", "--no-open")).status == 2


async def test_an_operator_s_word_is_on_record_as_such(desk: Desk) -> None:
    done = await desk.resolve(
        *("--finding", "answered", "--result", "approved"),
        *("--processor-reference", "pi_9", "--yes"),
    )
    assert done.status == 0, done.err
    assert done.out == f"{desk.id}: answered, approved\n"
    (entry,) = await desk.resolved()
    assert (entry.method, entry.finding, entry.result) == ("manual", "answered", "approved")
    assert entry.actor.kind == "operator"
    assert entry.origin_boot == str(desk.opened.boot)
    body = await desk.store.value("SELECT body FROM detail WHERE id::text = $1", entry.id)
    assert isinstance(body, bytes)
    assert json.loads(body) == {"evidence": WORD, "processor_reference": "pi_9"}
    assert await DoubtTable(desk.store.database).open() == []
    types = [entry.type for entry in await desk.store.entries()]
    assert types[-3:] == ["gateway.started", "authorization.resolved", "gateway.stopped"]


async def test_what_is_on_record_is_only_corrected_when_that_is_meant(desk: Desk) -> None:
    not_received = ("--finding", "not_received", "--yes")
    assert (await desk.resolve(*not_received)).status == 0
    answered = ("--finding", "answered", "--result", "declined", "--yes")
    refused = await desk.resolve(*answered)
    assert refused.status == 1
    assert "it is resolved: --correct" in refused.err
    assert (await desk.resolve(*answered, "--correct")).status == 0
    first, second = await desk.resolved()
    assert (first.finding, second.finding) == ("not_received", "answered")
    assert second.supersedes is not None
    row = await desk.store.rows("SELECT state, result FROM authorizations")
    assert [tuple(one) for one in row] == [("resolved", "declined")]


async def test_what_is_under_way_is_left_alone(desk: Desk) -> None:
    first = desk.opened.facts.first
    await desk.store.do(
        "INSERT INTO intent_state SELECT $2, first, 2, tenant, route, tokens, opens_cvc,"
        " 'attempted', NULL, NULL, NULL, NULL, NULL, opened_idx, last_idx, replica, boot, due,"
        " opened_at FROM intent_state WHERE first::text = $1",
        first,
        new_uuid(),
    )
    await desk.store.do("UPDATE authorizations SET state = 'attempted'")
    refused = await desk.resolve("--finding", "not_sent", "--yes")
    assert (refused.status, await desk.resolved()) == (1, [])
    assert "under way" in refused.err


async def test_it_is_asked_for_and_can_be_thought_better_of(desk: Desk) -> None:
    asked = await desk.resolve("--finding", "not_sent", stdin=b"n\n")
    assert asked.status == 1
    assert f"Put on record that {desk.id} is not_sent, error?" in asked.err
    assert (await desk.resolve("--finding", "not_sent", stdin=b"")).status == 1
    assert await desk.resolved() == []
    assert (await desk.resolve("--finding", "not_sent", stdin=b"y\n")).status == 0
    assert len(await desk.resolved()) == 1


@pytest.mark.parametrize(
    ("words", "statement"),
    [
        (("--finding", "answered"), WORD),
        (("--finding", "not_sent", "--result", "approved"), WORD),
        (("--finding", "given_up"), WORD),
        (("--finding", "perhaps"), WORD),
        (("--finding", "not_sent"), ""),
        (("--finding", "not_sent"), "a\nb"),
        (("--finding", "not_sent"), "x" * (STATEMENT_CHARACTERS_MAX + 1)),
    ],
)
def test_what_makes_no_sense_is_not_even_tried(words: tuple[str, ...], statement: str) -> None:
    arguments = ["resolve", authorization_id(new_uuid()), "--statement", statement, *words]
    ran = CliRunner().invoke(command_group, [*arguments, "--yes", "--config", "nowhere.toml"])
    assert ran.exit_code == 2


async def test_nobody_s_authorization(desk: Desk) -> None:
    word = ("--statement", WORD, "--finding", "not_sent", "--yes")
    unknown = await desk.command("authorizations", "resolve", authorization_id(new_uuid()), *word)
    assert (unknown.status, "no such authorization" in unknown.err) == (1, True)
    assert (await desk.command("authorizations", "resolve", "aut_x", *word)).status == 2
