import os
from pathlib import Path

import pytest

from vault.embedded.hold import Hold, InUse, has_authority, is_prepared
from vault.errors import StartRefused


def test_the_folder_is_made_and_is_private(tmp_path: Path) -> None:
    hold = Hold.take(tmp_path / "a" / "b")

    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    hold.release()


def test_a_folder_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)

    Hold.take(folder).release()

    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_second_taker_hears_who_holds_it(tmp_path: Path) -> None:
    hold = Hold.take(tmp_path)

    with pytest.raises(InUse, match=f"in use by process {os.getpid()}") as refused:
        Hold.take(tmp_path)

    assert refused.value.pid == os.getpid()
    hold.release()


def test_what_is_released_may_be_taken_again(tmp_path: Path) -> None:
    hold = Hold.take(tmp_path)
    hold.release()
    hold.release()  # may be repeated

    Hold.take(tmp_path).release()


def test_a_holder_that_has_not_written_its_id_yet_is_another_process(tmp_path: Path) -> None:
    hold = Hold.take(tmp_path)
    (tmp_path / "lock").write_text("")

    with pytest.raises(InUse, match="in use by another process"):
        Hold.take(tmp_path)
    hold.release()


@pytest.mark.parametrize("name", ["notes.txt", "postgres", "log"])
def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()

    with pytest.raises(StartRefused, match="not empty and was not made by panward"):
        Hold.take(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StartRefused, match="cannot be used"):
        Hold.take(tmp_path / "file")


def test_a_folder_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("ready 99\n")
    hold = Hold.take(tmp_path)

    with pytest.raises(StartRefused, match="another version"):
        is_prepared(hold.layout)
    hold.release()


def test_a_folder_from_before_there_was_an_authority_goes_on_without(tmp_path: Path) -> None:
    hold = Hold.take(tmp_path)
    hold.end_first_start()
    assert has_authority(hold.layout)

    (tmp_path / "state").write_text("ready 1\n")

    assert is_prepared(hold.layout)
    assert not has_authority(hold.layout)
    hold.release()


def test_only_the_end_of_a_first_start_makes_a_deployment(tmp_path: Path) -> None:
    hold = Hold.take(tmp_path)
    assert not is_prepared(hold.layout)

    hold.begin_first_start()
    assert not is_prepared(hold.layout)

    hold.end_first_start()
    assert is_prepared(hold.layout)
    hold.release()


def test_what_a_first_start_left_unfinished_is_thrown_away(tmp_path: Path) -> None:
    hold = Hold.take(tmp_path)
    hold.begin_first_start()
    (hold.layout.secrets / "half").write_text("")
    hold.layout.ports.write_text("")
    hold.release()

    hold = Hold.take(tmp_path)
    hold.begin_first_start()

    assert not list(hold.layout.secrets.iterdir())
    assert not hold.layout.ports.exists()
    hold.release()
