"""Go's own code for transparency logs accepts our files byte for byte, and no others."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.independent import go_verifier
from tests.independent.exported_log import CHECKPOINT, entries, exported, signed_checkpoint, write
from tests.independent.go_verifier import GoVerifier, Verdict
from tests.vault.ledger import golden
from vault.ledger.checkpoint import parse_checkpoint
from vault.ledger.note import (
    ED25519,
    Note,
    Signature,
    VerifierKey,
    parse_note,
    parse_signatures,
)

SIZES = [1, 2, 255, 256, 257, 700]
WITNESS_PUBLIC_KEY = golden.WITNESS_PRIVATE_KEY.public_key().public_bytes_raw()

Check = Callable[..., Verdict]


@pytest.fixture(scope="session")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> GoVerifier:
    return go_verifier.build(tmp_path_factory.mktemp("go"))


@pytest.fixture
def check(verifier: GoVerifier, tmp_path: Path) -> Check:
    """Run the verifier on files, holding old checkpoints."""

    def run(files: dict[str, bytes], *held: bytes, key: str = golden.LOG_KEY) -> Verdict:
        folder = write(files, tmp_path / "export")
        paths = []
        for number, raw in enumerate(held):
            paths.append(tmp_path / f"held-{number}")
            paths[-1].write_bytes(raw)
        verdict = verifier(key, folder, *paths)
        shutil.rmtree(folder)
        return verdict

    return run


def held(size: int) -> bytes:
    return signed_checkpoint(entries(size)).raw


@pytest.mark.parametrize("size", SIZES)
def test_a_log_is_accepted(check: Check, size: int) -> None:
    older = [each for each in SIZES if each <= size]
    verdict = check(exported(entries(size)), *map(held, older))
    assert verdict.accepted, verdict.words
    assert verdict.words.startswith(f"{size} entries, root ")
    assert verdict.words.endswith(f", extends {len(older)} checkpoints\n")


def test_the_golden_log_is_accepted(check: Check) -> None:
    files = {
        CHECKPOINT: golden.NOTE_3,
        golden.TILE_PATH: b"".join(golden.LEAVES),
        golden.BUNDLE_PATH: golden.BUNDLE,
    }
    assert exported(golden.ENTRIES) == files
    verdict = check(files, signed_checkpoint(golden.ENTRIES[:2]).raw)
    assert verdict.accepted, verdict.words


def test_cosignatures_and_a_second_key_do_no_harm(check: Check) -> None:
    files = exported(golden.ENTRIES)
    next_key = VerifierKey(golden.ORIGIN, ED25519, WITNESS_PUBLIC_KEY)
    raw_signature = golden.WITNESS_PRIVATE_KEY.sign(golden.CHECKPOINT_3.encode())
    line = Signature(golden.ORIGIN, next_key.key_id, raw_signature)
    cosignatures = parse_signatures(golden.COSIGNATURE_3.encode())
    files[CHECKPOINT] = parse_note(golden.NOTE_3).with_signatures([line, *cosignatures]).raw
    for key in (golden.LOG_KEY, next_key.text):
        verdict = check(files, key=key)
        assert verdict.accepted, verdict.words


def test_checkpoints_in_the_export_are_held_too(check: Check) -> None:
    files = exported(entries(300))
    kept = {f"checkpoints/{size}": held(size) for size in (1, 256, 299, 300)}
    assert check(files | kept).words.endswith("extends 4 checkpoints\n")
    kept["checkpoints/256"] = signed_checkpoint(entries(256, of="fork")).raw
    assert not check(files | kept).accepted


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.guards("T-60")
@pytest.mark.parametrize(
    ("path", "at"),
    [
        ("tile/entries/000", 2),  # an entry
        ("tile/entries/000", 1),  # its length
        ("tile/entries/002.p/188", -1),
        ("tile/0/000", 0),
        ("tile/0/001", 8191),
        ("tile/0/002.p/188", 32),
        ("tile/1/000.p/2", 0),
        ("tile/1/000.p/2", 63),
        (CHECKPOINT, 0),  # the origin
        (CHECKPOINT, len(golden.ORIGIN) + 1),  # the size
        (CHECKPOINT, len(golden.ORIGIN) + 5),  # the root
        (CHECKPOINT, -20),  # the signature
    ],
)
def test_a_changed_byte_is_refused(check: Check, path: str, at: int) -> None:
    files = exported(entries(700))
    assert check(files).accepted
    content = bytearray(files[path])
    content[at] ^= 1
    assert not check(files | {path: bytes(content)}).accepted


@pytest.mark.guards("T-60")
def test_every_changed_byte_of_a_small_log_is_refused(check: Check) -> None:
    """Bit 3 of each: the lowest two of base64's last character mean nothing to Go."""
    files = exported(golden.ENTRIES)
    for path, content in files.items():
        for at in range(len(content)):
            changed = bytearray(content)
            changed[at] ^= 8
            assert not check(files | {path: bytes(changed)}).accepted, (path, at)


@pytest.mark.guards("T-60")
@pytest.mark.parametrize("path", sorted(exported(entries(700))))
def test_a_missing_or_cut_file_is_refused(check: Check, path: str) -> None:
    files = exported(entries(700))
    content = files.pop(path)
    assert not check(files).accepted
    for changed in (b"", content[:-1], content + b"\0", content[:-32], content + content[-32:]):
        assert not check(files | {path: changed}).accepted


@pytest.mark.guards("T-60")
def test_entries_in_another_order_are_refused(check: Check) -> None:
    files = exported(entries(300))
    assert not check(files | {"tile/entries/000": files["tile/entries/001.p/44"]}).accepted
    swapped = entries(300)
    swapped[3], swapped[4] = swapped[4], swapped[3]
    assert not check(exported(swapped) | {CHECKPOINT: files[CHECKPOINT]}).accepted


@pytest.mark.guards("T-60")
def test_a_head_of_another_size_is_refused(check: Check) -> None:
    files = exported(entries(300))
    for size in (299, 301):
        checkpoint = signed_checkpoint(entries(size))
        assert not check(files | {CHECKPOINT: checkpoint.raw}).accepted
        text = parse_note(files[CHECKPOINT]).text.replace("\n300\n", f"\n{size}\n")
        raw_signature = golden.LOG_PRIVATE_KEY.sign(text.encode())
        line = Signature(golden.ORIGIN, checkpoint.signatures[0].key_id, raw_signature)
        assert parse_checkpoint(text).size == size
        assert not check(files | {CHECKPOINT: Note(text, (line,)).raw}).accepted


@pytest.mark.guards("T-60")
def test_another_signer_is_refused(check: Check) -> None:
    files = exported(entries(3))
    stranger = VerifierKey(golden.ORIGIN, ED25519, WITNESS_PUBLIC_KEY)
    assert not check(files, key=stranger.text).accepted
    raw_signature = golden.WITNESS_PRIVATE_KEY.sign(golden.CHECKPOINT_3.encode())
    for key_id in (stranger.key_id, VerifierKey.parse(golden.LOG_KEY).key_id):
        line = Signature(golden.ORIGIN, key_id, raw_signature)
        assert not check(files | {CHECKPOINT: Note(golden.CHECKPOINT_3, (line,)).raw}).accepted


@pytest.mark.guards("T-60", "T-75")
@pytest.mark.parametrize("size", [1, 255, 256, 300, 511, 512, 513, 700])
def test_a_fork_or_rollback_against_a_held_head_is_refused(check: Check, size: int) -> None:
    files = exported(entries(513))
    fork = [*entries(size - 1), b"another entry"]
    assert not check(files, signed_checkpoint(fork).raw).accepted
    assert check(files, held(size)).accepted == (size <= 513)


@pytest.mark.guards("T-60")
def test_a_history_written_anew_is_found_only_by_whoever_holds_a_head(
    check: Check,
) -> None:
    """The limit: without a head held elsewhere a complete rewrite, signed again, is a good log."""
    rewritten = exported(entries(300, of="rewritten"))
    assert check(rewritten).accepted
    assert not check(rewritten, held(3)).accepted


def test_without_go_ci_fails_and_others_say_what_was_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(AssertionError, match=r"golang\.org/x/mod"):
        go_verifier.build(tmp_path)
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match=r"golang\.org/x/mod"):
        go_verifier.build(tmp_path)
