"""Files that are sent to the simulated Stripe: looked at, answered for and not kept. Pure.

The one call of its API that is no form: `multipart/form-data` (RFC 7578), read here with the
standard library and not with the gateway's own codec, so that one notices what the other gets
wrong.
"""

import email.policy
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Final

from gateway.sandbox.objects import File
from gateway.sandbox.refusals import invalid, malformed, missing
from gateway.sandbox.wire import WireCall

PATH: Final = "/v1/files"
MULTIPART: Final = "multipart/form-data"
PURPOSES: Final = frozenset({"dispute_evidence", "identity_document", "business_logo"})


def is_upload(call: WireCall) -> bool:
    return call.method == "POST" and call.path == PATH


def uploaded(call: WireCall, *, new_id: Callable[[str], str], created: int) -> File:
    """Take a file in, or raise Refusal."""
    parts = _parts(call)
    purpose, file = parts.get("purpose"), parts.get("file")
    if purpose is None:
        raise missing("purpose")
    if file is None:
        raise missing("file")
    said = purpose.content.decode("ascii", "replace").strip()
    if said not in PURPOSES:
        raise invalid("purpose", "There is no such purpose.")
    size = len(file.content)
    return File(id=new_id("file"), created=created, filename=file.name, purpose=said, size=size)


@dataclass(frozen=True, slots=True, repr=False)
class _Part:
    """One part: the name of its file, if it is one, and what is in it."""

    name: str
    content: bytes


def _parts(call: WireCall) -> dict[str, _Part]:
    content_type = call.headers.get("content-type", "")
    if not content_type.lower().startswith(MULTIPART):
        raise malformed("A file is sent as multipart/form-data.")
    head = f"Content-Type: {content_type}\r\n\r\n".encode("utf-8", "surrogateescape")
    message = BytesParser(EmailMessage, policy=email.policy.HTTP).parsebytes(head + call.body)
    if message.defects or not message.is_multipart():
        raise malformed("The request body is not readable multipart/form-data.")
    parts: dict[str, _Part] = {}
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        name = str(part.get_param("name", "", "content-disposition"))
        body = content if isinstance(content, bytes) else b""
        parts[name] = _Part(part.get_filename() or "file", body)
    return parts
