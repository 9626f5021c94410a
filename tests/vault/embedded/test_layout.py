from pathlib import Path

import pytest

from vault.embedded.layout import Layout
from vault.private_files import write_private


def test_the_unseal_key_is_outside_both_data_folders() -> None:
    layout = Layout(Path("/deployment"))

    for data in (layout.postgres_data, layout.openbao_raft):
        assert not layout.unseal_key.is_relative_to(data)


def test_every_folder_is_private(tmp_path: Path) -> None:
    Layout(tmp_path).make_folders()

    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]

    assert len(folders) == 9
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_a_private_file_is_written_whole_and_for_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private(path, b"first")

    write_private(path, b"second")

    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["secret"]


def test_a_write_that_was_cut_off_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "secret.new").write_bytes(b"half")

    write_private(tmp_path / "secret", b"whole")

    assert (tmp_path / "secret").read_bytes() == b"whole"


@pytest.mark.parametrize("name", ["tokenize", "break-glass"])
def test_each_login_has_files_of_its_own(name: str) -> None:
    layout = Layout(Path("/deployment"))

    assert layout.role_id(name) == Path(f"/deployment/secrets/{name}.role-id")
    assert layout.secret_id(name) == Path(f"/deployment/secrets/{name}.secret-id")
