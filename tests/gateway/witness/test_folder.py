"""A witness's folder: its key is worth what it holds, and one process has both."""

from pathlib import Path

import pytest

from gateway.witness.folder import witness_folder
from gateway.witness.judgment import Asked, asked
from tests.gateway.witness.signed_log import SignedLog
from vault.errors import StartRefused

NAME = "witness.example/w1"


def use(folder: Path) -> str:
    """Cosign something; return who did."""
    log = SignedLog.of_size(3)
    with witness_folder(folder, NAME) as (identity, held):
        if held.is_empty():
            asking = asked(log.request(0).body, {log.key.name: (log.key,)})
            assert isinstance(asking, Asked)
            held.add(asking, lambda: identity.cosign(log.note().text, 7))
        return identity.key.text


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "witness"
    key = use(folder)
    assert use(folder) == key
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.iterdir()} == {"key", "held.sqlite3", "lock"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())


def test_a_first_start_that_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="no spaces"), witness_folder(tmp_path, "no name"):
        pass
    assert not (tmp_path / "key").exists()
    assert use(tmp_path) == use(tmp_path)


@pytest.mark.guards("T-75")
def test_a_key_whose_memory_is_gone_never_signs_again(tmp_path: Path) -> None:
    use(tmp_path)
    (tmp_path / "held.sqlite3").unlink()
    for _ in range(2):
        with pytest.raises(StartRefused, match="must never sign again"):
            use(tmp_path)


def test_a_memory_whose_key_is_gone_is_nobodys(tmp_path: Path) -> None:
    use(tmp_path)
    (tmp_path / "key").unlink()
    with pytest.raises(StartRefused, match="new witness"):
        use(tmp_path)


@pytest.mark.guards("T-75")
def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        witness_folder(tmp_path, NAME),
        pytest.raises(StartRefused, match="in use"),
        witness_folder(tmp_path, NAME),
    ):
        pass
    use(tmp_path)
