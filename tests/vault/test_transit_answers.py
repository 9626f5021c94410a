"""What replies mean, with the texts and statuses that OpenBao 2.7.2 was seen to give."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from vault.errors import (
    KeysError,
    KeysMisconfigured,
    KeysSealed,
    KeysThrottled,
    KeysTimedOut,
    KeysUnavailable,
    KeyVersionRetired,
    RecordCorrupt,
)
from vault.transit_answers import (
    FAILURES,
    Again,
    Answer,
    KeyVersionTooNew,
    Verdict,
    answer_of,
    item_failure,
    results_in,
)

MIXED = b"""{"request_id":"018bcb55","lease_id":"","renewable":false,"data":{"batch_results":[
{"plaintext":"aGVsbG8=","reference":"1"},
{"plaintext":"","error":"cipher: message authentication failed","reference":"2"}]},"auth":null}"""


def errors(*texts: str) -> bytes:
    return json.dumps({"errors": texts}).encode()


@pytest.mark.parametrize(
    ("status", "content", "verdict"),
    [
        (200, MIXED, Verdict.ANSWERED),
        (400, MIXED, Verdict.ANSWERED),
        (500, MIXED, Verdict.ANSWERED),
        (204, b"", Verdict.ANSWERED),
        (200, b'{"data":{"version":1}}', Verdict.ANSWERED),
        (200, b"<html>", Verdict.GARBLED),
        (200, b"", Verdict.GARBLED),
        (200, b'{"data":{},"errors":7}', Verdict.GARBLED),
        (200, b'{"errors":["\xff"]}', Verdict.GARBLED),
        (301, b"", Verdict.ELSEWHERE),
        (307, b"", Verdict.ELSEWHERE),
        (
            400,
            errors("context should be set either in all the request blocks or in none"),
            Verdict.POISONED,
        ),
        (500, errors("* failed to parse batch input: '[1].x' expected"), Verdict.POISONED),
        (400, errors("refused JSON input due to high complexity: ..."), Verdict.POISONED),
        (500, errors("cipher: message authentication failed"), Verdict.POISONED),
        (413, b"", Verdict.POISONED),
        (400, errors("cannot generate HMAC: version is too old (disallowed)"), Verdict.RETIRED),
        (
            400,
            errors("check-and-set parameter did not match the current version"),
            Verdict.OUTRUN,
        ),
        (400, errors("check-and-set parameter required for this call"), Verdict.REFUSED),
        (400, errors("encryption key not found"), Verdict.REFUSED),
        (400, errors("key version does not exist; latest key version is 1"), Verdict.REFUSED),
        (400, errors("invalid role or secret ID"), Verdict.REFUSED),
        (400, b"not json", Verdict.REFUSED),
        (403, errors("permission denied"), Verdict.FORBIDDEN),
        (404, errors(), Verdict.ABSENT),
        (404, b'{"data":{"data":null,"metadata":{"version":1}}}', Verdict.ABSENT),
        (404, errors('no handler for route "x"'), Verdict.REFUSED),
        (405, errors("* unsupported operation"), Verdict.REFUSED),
        (412, errors("required index state not present"), Verdict.ELSEWHERE),
        (429, errors("request path: rate limit quota exceeded"), Verdict.THROTTLED),
        (472, b"", Verdict.ELSEWHERE),
        (473, b"", Verdict.ELSEWHERE),
        (500, errors("internal error"), Verdict.FAILED),
        (500, b"<html>", Verdict.FAILED),
        (501, errors(), Verdict.SEALED),
        (502, b"<html>bad gateway", Verdict.UNAVAILABLE),
        (503, errors("Vault is sealed"), Verdict.SEALED),
        (503, errors("node not active but active node not found"), Verdict.UNAVAILABLE),
        (599, b"", Verdict.FAILED),
        (100, b"", Verdict.REFUSED),
    ],
)
def test_a_reply_means(status: int, content: bytes, verdict: Verdict) -> None:
    assert answer_of(status, content).verdict is verdict


@given(st.integers(100, 599), st.binary(max_size=60))
def test_any_reply_means_something(status: int, content: bytes) -> None:
    assert answer_of(status, content).verdict in Verdict


def test_every_verdict_but_the_good_one_ends_as_an_error() -> None:
    assert FAILURES.keys() == set(Verdict) - {Verdict.ANSWERED}


@pytest.mark.parametrize(
    ("verdict", "failure", "again"),
    [
        (Verdict.NOT_CONNECTED, KeysUnavailable, Again.ANYWHERE),
        (Verdict.BROKEN, KeysUnavailable, Again.ANYWHERE),
        (Verdict.TIMED_OUT, KeysTimedOut, Again.ON_ANOTHER_NODE),
        (Verdict.ELSEWHERE, KeysUnavailable, Again.ON_ANOTHER_NODE),
        (Verdict.THROTTLED, KeysThrottled, Again.ANYWHERE),
        (Verdict.SEALED, KeysSealed, Again.ON_ANOTHER_NODE),
        (Verdict.FAILED, KeysError, Again.ON_ANOTHER_NODE),
        (Verdict.FORBIDDEN, KeysMisconfigured, Again.NOWHERE),
        (Verdict.REFUSED, KeysMisconfigured, Again.NOWHERE),
        (Verdict.RETIRED, KeyVersionRetired, Again.NOWHERE),
        (Verdict.POISONED, RecordCorrupt, Again.NOWHERE),
    ],
)
def test_the_table_of_outcomes(verdict: Verdict, failure: type[KeysError], again: Again) -> None:
    assert FAILURES[verdict] == (failure, again)
    assert Answer(verdict).failure is failure


@pytest.mark.parametrize(
    ("text", "failure", "kind"),
    [
        ("cipher: message authentication failed", RecordCorrupt, "context"),
        ("missing 'context' for key derivation; the key was", RecordCorrupt, "context"),
        ("invalid ciphertext: no prefix", RecordCorrupt, "base64"),
        ("invalid ciphertext: could not decode base64", RecordCorrupt, "base64"),
        ("invalid ciphertext length", RecordCorrupt, "base64"),
        ("invalid ciphertext: version number could not be decoded", RecordCorrupt, "base64"),
        ("missing ciphertext to decrypt", RecordCorrupt, "base64"),
        ("illegal base64 data at input byte 0", RecordCorrupt, "base64"),
        ("invalid ciphertext: version is too new", KeyVersionTooNew, "too_new"),
        (
            "ciphertext or signature version is disallowed by policy (too old)",
            KeyVersionRetired,
            "too_old",
        ),
        ("something else", KeysError, "other"),
        ("", KeysError, "other"),
    ],
)
def test_what_is_held_against_an_item(text: str, failure: type[KeysError], kind: str) -> None:
    assert item_failure(text) == (failure, kind)


def test_a_version_that_is_too_new_looks_like_an_absent_vault_to_everybody_else() -> None:
    assert KeyVersionTooNew.code == KeysUnavailable.code
    assert KeyVersionTooNew.retryable


def test_results_are_read_where_there_are_any() -> None:
    results = results_in(answer_of(400, MIXED).data)
    assert results is not None
    assert [result.plaintext for result in results] == [b"hello", b""]
    for other in (b'{"data":{"x":1}}', b'{"data":null}', b'{"data":[]}', b'{"data":"a"}'):
        assert results_in(answer_of(200, other).data) is None


@pytest.mark.guards("T-67")
def test_an_answer_prints_only_its_type() -> None:
    answer = answer_of(200, MIXED)
    assert repr(answer) == "Answer"
    assert "aGVsbG8" not in pretty_repr(answer)
