import pytest

from gateway.scan import find_cards
from gateway.scan_stream import KEPT_BACK, ScanStream
from tests import cards
from tests.encoders import ENCODERS

_NAMES = ["plain", "spaces", "percent", "base64 of JSON", "entities", "UTF-16", "hex", "track 1"]


def _places(stream: ScanStream, pieces: list[bytes]) -> tuple[bytes, list[tuple[int, int]]]:
    raw, places = b"", []
    for piece in [each for data in pieces for each in stream.feed(data)] + stream.end():
        places += [(hit.start + len(raw), hit.end + len(raw)) for hit in piece.hits]
        raw += piece.raw
    return raw, places


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("name", _NAMES)
def test_a_number_is_found_wherever_the_chunks_are_cut(name: str) -> None:
    body = b'{"a":"' + ENCODERS[name](cards.VISA) + b'","b":1}'
    whole = [(hit.start, hit.end) for hit in find_cards(body).hits]
    assert whole
    for cut in range(len(body) + 1):
        raw, places = _places(ScanStream(), [body[:cut], body[cut:]])
        assert (raw, places) == (body, whole)


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("name", _NAMES)
def test_also_where_the_stream_lets_go(name: str) -> None:
    """The number is moved across every place at which bytes may be let go."""
    spelled = ENCODERS[name](cards.VISA)
    for before in range(2 * KEPT_BACK - len(spelled) - 80, 2 * KEPT_BACK + 40, 7):
        body = b"<p>" * (before // 3) + b"x" * (before % 3) + b"," + spelled + b"," + b"<p>" * 2000
        whole = [(hit.start, hit.end) for hit in find_cards(body).hits]
        assert len(whole) == 1
        raw, places = _places(ScanStream(), [body[:8000], body[8000:12290], body[12290:]])
        assert (raw, places) == (body, whole)


def test_a_row_that_was_let_go_begins_no_number() -> None:
    body = b"9" * 3 * KEPT_BACK + cards.VISA.encode()
    for size in (4096, 5000, 8191):
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        assert _places(ScanStream(), pieces) == (body, [])


def test_lines_are_let_go_at_once() -> None:
    stream = ScanStream(at_lines=True)
    [piece] = stream.feed(f"data: {cards.VISA}\n\ndata: 4".encode())
    assert (len(piece.hits), piece.raw[-2:]) == (1, b"\n\n")
    [rest] = stream.end()
    assert rest.raw == b"data: 4"


@pytest.mark.parametrize("line", [b"4111 x %34 ", b'{"id":17000,"name":"a"}\n', b"4.5 3.2 1.1\n"])
def test_little_is_kept_back(line: bytes) -> None:
    stream, fed, gone = ScanStream(), 0, 0
    for _ in range(50):
        data = line * (10_000 // len(line))
        fed += len(data)
        gone += sum(len(piece.raw) for piece in stream.feed(data))
        assert fed - gone <= 4096


def test_it_is_found_however_small_the_chunks_are() -> None:
    body = b"<p>" * 2000 + ENCODERS["spaces"](cards.VISA) + b"<p>" * 2000
    whole = [(hit.start, hit.end) for hit in find_cards(body).hits]
    pieces = [body[at : at + 97] for at in range(0, len(body), 97)]
    assert _places(ScanStream(), pieces) == (body, whole)
