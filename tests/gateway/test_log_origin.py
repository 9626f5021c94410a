"""A published log, as files and over HTTPS: whatever is changed in it, and where.

The one change that nothing here can see is a complete rewrite that is signed again: it is a good
log. Who kept a head of the one before sees it at once.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from gateway.addresses import AddressAllow
from gateway.commands.verifying import Terms, Verdict, verify_log
from gateway.https_client import HttpsClient, Unwatched
from gateway.log_origin import ExportFolder, HttpOrigin, LogFiles, OriginFailed, TiledLog
from tests.gateway.raw_servers import Certificates, at
from tests.vault.ledger.signed_story import KEY, exported, purchases
from vault.ledger.check import LogCheck
from vault.ledger.held import SignedHead, Source, Trust
from vault.ledger.rules import Rule
from vault.ledger.tree import leaf_hash

SMALL, MIDDLE, SIZE = 3, 300, 600  # of the checkpoints
LOOPBACK = AddressAllow.parse(["127.0.0.0/8"])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original") / "export"
    asyncio.run(exported(purchases(SIZE), folder, SMALL, MIDDLE, SIZE))
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "export"))


async def verified(files: LogFiles, *held: bytes, pinned: bool = True) -> Verdict:
    keys = [KEY] if pinned else []
    check = LogCheck(Trust(keys))
    heads = [SignedHead.parse(raw, Source.HELD) for raw in held]
    terms = Terms(held=heads, is_live=False)
    return await verify_log(TiledLog(files, check), check, terms)


async def first(folder: Path, *held: bytes) -> tuple[Rule, int | None] | None:
    """Return what is found first, if anything is."""
    found = (await verified(ExportFolder(folder), *held)).report.violations
    return (found[0].rule, found[0].index) if found else None


def changed(file: Path, change: Callable[[bytes], bytes]) -> None:
    raw = file.read_bytes()
    made = change(raw)
    assert made != raw
    file.chmod(0o644)
    file.write_bytes(made)


def flipped(file: Path, place: int, bit: int = 1) -> None:
    changed(file, lambda raw: raw[:place] + bytes([raw[place] ^ bit]) + raw[place + 1 :])


def starts(raw: bytes) -> list[int]:
    """Say where the entries of a bundle begin."""
    places, place = [], 0
    while place < len(raw):
        places.append(place)
        place += 2 + int.from_bytes(raw[place : place + 2])
    return places


# --- as it is -----------------------------------------------------------------------------


async def test_a_good_export(folder: Path) -> None:
    verdict = await verified(ExportFolder(folder))
    report = verdict.report
    assert verdict.is_good, report.violations
    assert (report.size, report.signed_size, report.checkpoints) == (SIZE, SIZE, 4)
    assert report.is_pinned
    assert verdict.latest == (folder / "checkpoint").read_bytes()


async def test_without_a_key_the_logs_own_word_is_taken(folder: Path) -> None:
    verdict = await verified(ExportFolder(folder), pinned=False)
    assert verdict.is_good
    assert not verdict.report.is_pinned


async def test_a_full_tile_may_stand_for_a_partial_one(folder: Path) -> None:
    """Partial tiles may be pruned once the full one is there (C2SP tlog-tiles)."""
    for name in ("entries", "0"):
        shutil.rmtree(folder / f"tile/{name}/000.p")
        shutil.rmtree(folder / f"tile/{name}/001.p")
    shutil.copy(folder / f"checkpoints/{MIDDLE}", folder / "checkpoint")
    assert await first(folder) is None


# --- files: every byte class, every file ----------------------------------------------------


@pytest.mark.guards("T-31")
@pytest.mark.guards("T-60")
@pytest.mark.parametrize("row", [0, 1, 2, 130, 255])
@pytest.mark.parametrize("bundle", [0, 1])
@pytest.mark.parametrize("what", ["length high", "length low", "first byte", "last byte"])
async def test_a_flipped_byte_of_a_bundle_is_named(
    folder: Path, bundle: int, row: int, what: str
) -> None:
    file = folder / f"tile/entries/00{bundle}"
    places = [*starts(raw := file.read_bytes()), len(raw)]
    place = {
        "length high": places[row],
        "length low": places[row] + 1,
        "first byte": places[row] + 2,
        "last byte": places[row + 1] - 1,
    }[what]
    flipped(file, place)
    found = await first(folder)
    assert found is not None
    assert found[0] in {Rule.LEAF, Rule.TILE}
    assert found[1] == bundle * 256 + row


@pytest.mark.guards("T-31")
async def test_every_byte_of_an_entry_is_named(folder: Path) -> None:
    file = folder / "tile/entries/002.p/88"
    raw = file.read_bytes()
    places = starts(raw)
    for place in range(places[40], places[41]):
        file.chmod(0o644)
        file.write_bytes(raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :])
        found = await first(folder)
        assert found is not None
        assert found[1] == 512 + 40, place - places[40]


@pytest.mark.guards("T-31")
@pytest.mark.parametrize(("tile", "row"), [("000", 0), ("000", 255), ("001", 7), ("002.p/88", 87)])
async def test_a_flipped_byte_of_a_leaf_tile_is_named(folder: Path, tile: str, row: int) -> None:
    flipped(folder / f"tile/0/{tile}", row * 32 + 31)
    found = await first(folder)
    assert found is not None
    assert found[1] == int(tile[:3]) * 256 + row


@pytest.mark.guards("T-31")
@pytest.mark.parametrize("row", [0, 1])
async def test_a_flipped_byte_of_a_tile_above_is_named(folder: Path, row: int) -> None:
    flipped(folder / "tile/1/000.p/2", row * 32)
    assert await first(folder) == (Rule.NODE, row * 256)


@pytest.mark.guards("T-31")
@pytest.mark.parametrize(
    ("tile", "place", "rule", "index"),
    [
        ("tile/0/000.p/3", 70, Rule.TILE, 2),
        ("tile/0/001.p/44", 0, Rule.TILE, 256),
        ("tile/1/000.p/1", 31, Rule.NODE, 0),
        ("tile/entries/001.p/44", -1, Rule.TILE, 256 + 43),
        ("tile/entries/000.p/3", 4, Rule.TILE, 0),
    ],
)
async def test_a_partial_tile_of_an_earlier_time_is_looked_at(
    folder: Path, tile: str, place: int, rule: Rule, index: int
) -> None:
    file = folder / tile
    flipped(file, place % file.stat().st_size)
    assert await first(folder) == (rule, index)


@pytest.mark.guards("T-60")
@pytest.mark.parametrize("name", ["checkpoint", f"checkpoints/{SIZE}", f"checkpoints/{MIDDLE}"])
async def test_every_byte_of_a_checkpoint_counts(folder: Path, name: str) -> None:
    file = folder / name
    raw = file.read_bytes()
    for place in range(len(raw)):
        file.chmod(0o644)
        file.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        try:
            found = await first(folder)
        except OriginFailed:
            continue
        assert found is not None, place
        assert found[0] is Rule.CHECKPOINT or place in range(24, 28), place  # the size


EVERYTHING = [
    ("tile/entries/000", 0),
    ("tile/entries/001", 256),
    ("tile/entries/002.p/88", 512),
    ("tile/0/000", 0),
    ("tile/0/001", 256),
    ("tile/0/002.p/88", 512),
    ("tile/1/000.p/2", 0),
]


@pytest.mark.guards("T-60")
@pytest.mark.parametrize(("name", "index"), EVERYTHING)
async def test_a_deleted_file_is_missed(folder: Path, name: str, index: int) -> None:
    (folder / name).unlink()
    rule = Rule.NODE if "/1/" in name else Rule.TILE
    assert await first(folder) == (rule, index)


@pytest.mark.guards("T-60")
async def test_without_its_checkpoint_a_log_cannot_be_checked(folder: Path) -> None:
    (folder / "checkpoint").unlink()
    with pytest.raises(OriginFailed):
        await first(folder)


@pytest.mark.guards("T-60")
@pytest.mark.parametrize(("name", "index"), EVERYTHING)
async def test_a_file_that_is_cut_short(folder: Path, name: str, index: int) -> None:
    changed(folder / name, lambda raw: raw[:-1])
    width = 88 if "002" in name else 2 if "/1/" in name else 256
    height = 8 if "/1/" in name else 0
    found = await first(folder)
    assert found is not None
    assert found[1] == index + ((width - 1) << height)


@pytest.mark.guards("T-60")
@pytest.mark.parametrize(("name", "index"), EVERYTHING)
async def test_a_file_that_goes_on(folder: Path, name: str, index: int) -> None:
    changed(folder / name, lambda raw: raw + b"\0")
    found = await first(folder)
    assert found is not None
    assert found[0] in {Rule.TILE, Rule.NODE}
    assert (found[1] or 0) >= index


@pytest.mark.guards("T-60")
async def test_entries_that_changed_places(folder: Path) -> None:
    def swapped(raw: bytes) -> bytes:
        one, two, three = starts(raw)[100:103]
        return raw[:one] + raw[two:three] + raw[one:two] + raw[three:]

    changed(folder / "tile/entries/001", swapped)
    found = await first(folder)
    assert found is not None
    assert found[1] == 256 + 100


@pytest.mark.guards("T-60")
async def test_entries_that_changed_places_with_their_hashes(folder: Path) -> None:
    """Then every bundle is that of its tile, and no tile is that of the one above."""

    def swapped(raw: bytes) -> bytes:
        one, two, three = starts(raw)[100:103]
        return raw[:one] + raw[two:three] + raw[one:two] + raw[three:]

    def swapped_hashes(raw: bytes) -> bytes:
        one = 100 * 32
        return raw[:one] + raw[one + 32 : one + 64] + raw[one : one + 32] + raw[one + 64 :]

    changed(folder / "tile/entries/001", swapped)
    changed(folder / "tile/0/001", swapped_hashes)
    report = (await verified(ExportFolder(folder))).report
    assert (Rule.NODE, 256) in {(one.rule, one.index) for one in report.violations}
    assert Rule.CHECKPOINT in {one.rule for one in report.violations}


@pytest.mark.guards("T-60")
@pytest.mark.parametrize("level", ["entries", "0"])
async def test_tiles_that_changed_places(folder: Path, level: str) -> None:
    one, two = folder / f"tile/{level}/000", folder / f"tile/{level}/001"
    first_bytes, second_bytes = one.read_bytes(), two.read_bytes()
    changed(one, lambda _: second_bytes)
    changed(two, lambda _: first_bytes)
    found = await first(folder)
    assert found is not None
    assert found[1] == 0


@pytest.mark.guards("T-31")
async def test_an_entry_that_is_rewritten_all_the_way_up(folder: Path) -> None:
    """Bundle, leaf and tile agree: only what was signed says that it was another."""

    def rewritten(raw: bytes) -> bytes:
        return raw.replace(b'"status":200', b'"status":402', 1)

    bundle = folder / "tile/entries/002.p/88"
    before = bundle.read_bytes()
    changed(bundle, rewritten)
    after = bundle.read_bytes()
    place = next(at for at, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)
    row = sum(start <= place for start in starts(after)) - 1
    start, end = [*starts(after), len(after)][row : row + 2]
    hash_ = leaf_hash(after[start + 2 : end])
    changed(folder / "tile/0/002.p/88", lambda raw: raw[: row * 32] + hash_ + raw[row * 32 + 32 :])
    found = (await verified(ExportFolder(folder))).report.violations
    assert {(one.rule, one.index) for one in found} == {(Rule.CHECKPOINT, MIDDLE)}
    assert {f"the {which} checkpoint of size {SIZE}" for which in ("latest", "stored")} == {
        one.message.removeprefix("from here on the log is not that of ") for one in found
    }


# --- heads that were kept -----------------------------------------------------------------


@pytest.mark.guards("T-60")
async def test_a_rolled_back_log_is_good_unless_somebody_kept_a_head(folder: Path) -> None:
    kept = (folder / "checkpoint").read_bytes()
    shutil.copy(folder / f"checkpoints/{MIDDLE}", folder / "checkpoint")
    assert await first(folder) is None
    assert await first(folder, kept) == (Rule.CHECKPOINT, MIDDLE)


@pytest.mark.guards("T-60")
async def test_a_log_that_is_rewritten_and_signed_again_is_good_unless_somebody_kept_a_head(
    folder: Path, tmp_path: Path
) -> None:
    """With database and key in one hand, only what lies elsewhere tells."""
    kept = [(folder / name).read_bytes() for name in ("checkpoint", f"checkpoints/{SMALL}")]
    other = tmp_path / "rewritten"
    await exported(purchases(SIZE), other, MIDDLE, SIZE)
    assert await first(other) is None
    assert await first(other, kept[0]) == (Rule.CHECKPOINT, 0)
    assert await first(other, kept[1]) == (Rule.CHECKPOINT, 0)


async def test_a_head_that_was_kept_is_a_beginning_of_what_came_later(folder: Path) -> None:
    kept = [(folder / f"checkpoints/{size}").read_bytes() for size in (SMALL, MIDDLE)]
    verdict = await verified(ExportFolder(folder), *kept)
    assert verdict.is_good
    assert verdict.report.checkpoints == 6


# --- over HTTPS ---------------------------------------------------------------------------


@dataclass
class Published:
    """A folder behind a web server."""

    client: HttpsClient


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def served(folder: Path, certificates: Certificates) -> AsyncIterator[HttpOrigin]:
    async def answer(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer right":
            return web.Response(status=401)
        file = folder / request.match_info["path"]
        if not file.is_file():
            return web.Response(status=404)
        return web.Response(body=file.read_bytes())

    app = web.Application()
    app.router.add_get("/ledger/{path:.+}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificates.server)
    await site.start()
    port = runner.addresses[0][1]
    client = HttpsClient(
        f"https://processor.test:{port}/ledger",
        Unwatched(),
        name="origin",
        ca_file=certificates.ca_file,
        address_allow=LOOPBACK,
        headers=[("Authorization", "Bearer right")],
        lookup=at("127.0.0.1"),
    )
    try:
        yield HttpOrigin(client)
    finally:
        await client.close()
        await runner.cleanup()


async def test_a_good_origin(folder: Path, certificates: Certificates) -> None:
    async with served(folder, certificates) as origin:
        verdict = await verified(origin, (folder / f"checkpoints/{MIDDLE}").read_bytes())
    assert verdict.is_good, verdict.report.violations
    assert (verdict.report.size, verdict.report.checkpoints) == (SIZE, 2)


@pytest.mark.guards("T-31")
@pytest.mark.parametrize(
    ("name", "place", "index"),
    [
        ("tile/entries/000", 3, 0),
        ("tile/entries/002.p/88", -1, 599),
        ("tile/0/001", 17 * 32, 256 + 17),
        ("tile/1/000.p/2", 33, 256),
    ],
)
async def test_a_flipped_byte_at_an_origin_is_named(
    folder: Path, certificates: Certificates, name: str, place: int, index: int
) -> None:
    file = folder / name
    flipped(file, place % file.stat().st_size)
    async with served(folder, certificates) as origin:
        report = (await verified(origin)).report
    assert report.violations[0].index == index


@pytest.mark.guards("T-60")
@pytest.mark.parametrize(("name", "index"), EVERYTHING)
async def test_what_an_origin_does_not_give_is_missed(
    folder: Path, certificates: Certificates, name: str, index: int
) -> None:
    (folder / name).unlink()
    async with served(folder, certificates) as origin:
        report = (await verified(origin)).report
    rule = Rule.NODE if "/1/" in name else Rule.TILE
    assert (report.violations[0].rule, report.violations[0].index) == (rule, index)


async def test_an_origin_that_refuses_or_is_not_there(
    folder: Path, certificates: Certificates
) -> None:
    async with served(folder, certificates) as origin:
        (folder / "checkpoint").unlink()
        with pytest.raises(OriginFailed, match="no checkpoint"):
            await verified(origin)
        origin._client._headers = ()
        with pytest.raises(OriginFailed, match="status 401"):
            await verified(origin)
    with pytest.raises(OriginFailed, match="does not answer"):
        await verified(origin)


async def test_a_checkpoint_that_promises_too_much_is_not_waited_for(folder: Path) -> None:
    """A size that somebody made up does not make the auditor ask for a billion tiles."""
    changed(folder / "checkpoint", lambda raw: raw.replace(b"\n600\n", b"\n6000000000\n"))
    report = (await verified(ExportFolder(folder))).report
    assert report.size <= SIZE
    assert report.violations_total < 100
