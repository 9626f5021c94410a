"""A file at the simulated Stripe: what is taken, and what is not."""

import pytest

from gateway.sandbox.refusals import Refusal
from gateway.sandbox.uploads import is_upload, uploaded
from gateway.sandbox.wire import WireCall

TYPE = "multipart/form-data; boundary=edge"
PURPOSE = b'Content-Disposition: form-data; name="purpose"\r\n\r\ndispute_evidence'
FILE = (
    b'Content-Disposition: form-data; name="file"; filename="a.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n\x00\xff\r\n--edg\r\n"
)


def call(*parts: bytes, content_type: str = TYPE, end: bytes = b"--edge--\r\n") -> WireCall:
    body = b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts) + end
    return WireCall("POST", "/v1/files", "", {"content-type": content_type}, body)


def test_a_file_is_answered_for() -> None:
    sent = call(PURPOSE, FILE)
    assert is_upload(sent)
    file = uploaded(sent, new_id=lambda prefix: f"{prefix}_1", created=5)
    assert (file.id, file.filename, file.purpose) == ("file_1", "a.bin", "dispute_evidence")
    assert file.size == len(b"\x00\xff\r\n--edg\r\n")


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        (call(FILE), "purpose"),
        (call(PURPOSE), "file"),
        (call(PURPOSE.replace(b"dispute", b"another"), FILE), "purpose"),
        (call(PURPOSE, FILE, content_type="application/json"), None),
        (call(PURPOSE, FILE, end=b""), None),
        (call(content_type="multipart/form-data"), None),
    ],
    ids=["no purpose", "no file", "another purpose", "another type", "no end", "no boundary"],
)
def test_anything_less_is_refused(sent: WireCall, param: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        uploaded(sent, new_id=lambda prefix: prefix, created=5)
    assert (caught.value.status, caught.value.error.param) == (400, param)
