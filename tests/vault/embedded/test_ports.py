import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vault.embedded import ports
from vault.embedded.layout import Layout
from vault.errors import StartRefused

LISTENERS = ("public", "private", "ops")


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_PREDECESSOR_SECONDS", 0.2)


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


async def test_each_name_gets_a_port_of_its_own(tmp_path: Path) -> None:
    chosen = await ports.choose(Layout(tmp_path), LISTENERS, None)

    assert set(chosen) == {*LISTENERS, "openbao", "openbao_cluster"}
    assert len(set(chosen.values())) == 5
    assert all(1024 < port < 32_768 for port in chosen.values())


async def test_they_are_the_same_at_the_next_start(tmp_path: Path) -> None:
    first = await ports.choose(Layout(tmp_path), LISTENERS, None)

    assert await ports.choose(Layout(tmp_path), LISTENERS, None) == first
    assert ports.remembered(Layout(tmp_path)) == first


async def test_one_that_is_taken_by_then_is_replaced(tmp_path: Path, taken: socket.socket) -> None:
    first = dict(await ports.choose(Layout(tmp_path), LISTENERS, None))
    first["public"] = taken.getsockname()[1]
    Layout(tmp_path).ports.write_text(str(first).replace("'", '"'))

    second = await ports.choose(Layout(tmp_path), LISTENERS, None)

    assert second["public"] != first["public"]
    assert {**second, "public": 0} == {**first, "public": 0}


async def test_a_base_fixes_all_of_them(tmp_path: Path) -> None:
    base = 31_100

    chosen = await ports.choose(Layout(tmp_path), LISTENERS, base)

    assert chosen == {
        "public": base,
        "private": base + 1,
        "ops": base + 2,
        "openbao": base + 8,
        "openbao_cluster": base + 9,
    }


async def test_a_base_that_is_taken_is_refused_by_name(
    tmp_path: Path, taken: socket.socket
) -> None:
    port = taken.getsockname()[1]

    with pytest.raises(StartRefused, match=rf"port {port} \(private\) is taken"):
        await ports.choose(Layout(tmp_path), LISTENERS, port - 1)


@pytest.mark.parametrize("base", [-1, 0, 65_530, 70_000])
async def test_a_base_without_room_is_refused(tmp_path: Path, base: int) -> None:
    with pytest.raises(StartRefused, match="no room for ten ports"):
        await ports.choose(Layout(tmp_path), LISTENERS, base)


async def test_a_port_that_becomes_free_in_time_is_kept(
    tmp_path: Path, taken: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last process's OpenBao dies with it, but a moment later."""
    monkeypatch.setattr(ports, "_PREDECESSOR_SECONDS", 5.0)
    port = taken.getsockname()[1]
    Layout(tmp_path).ports.write_text(f'{{"public":{port}}}')
    polls = 0

    def is_free(asked: int) -> bool:
        nonlocal polls
        polls += 1
        if polls == 3:
            taken.close()
        return really_free(asked)

    really_free = ports._is_free
    monkeypatch.setattr(ports, "_is_free", is_free)

    chosen = await ports.choose(Layout(tmp_path), LISTENERS, None)

    assert chosen["public"] == port


async def test_of_two_that_start_at_once_each_gets_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds pass from the choice until something listens."""
    monkeypatch.setattr(ports, "_COUNT", 2 * (len(LISTENERS) + 2))
    held: list[socket.socket] = []
    try:
        chosen = [
            await ports.choose(Layout(folder), LISTENERS, None, keep=held.append)
            for folder in (made(tmp_path / "one"), made(tmp_path / "other"))
        ]
        assert len({port for each in chosen for port in each.values()}) == ports._COUNT
        with pytest.raises(StartRefused, match="is taken"):
            await ports.choose(Layout(made(tmp_path / "third")), (), min(chosen[0].values()) - 8)
    finally:
        for each in held:
            each.close()
    again = await ports.choose(Layout(tmp_path / "one"), LISTENERS, None)
    assert again == chosen[0]


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder
