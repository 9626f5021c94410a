"""What mitmproxy runs as the peer: a token in a request's body becomes sixteen digits.

No key, no record, no look at who calls. mitmproxy's own environment reads this file, so it
imports nothing of this project, and nothing of mitmproxy either.
"""

import re
from typing import Final, Protocol

DIGITS: Final = b"0" * 16
_TOKEN: Final = re.compile(rb"pwt_test_[0-9a-z]{28}")


class Message(Protocol):
    """The part of mitmproxy's request that is used."""

    content: bytes | None


class Flow(Protocol):
    """A request and, later, its reply."""

    request: Message


def request(flow: Flow) -> None:
    """Mitmproxy calls this with every whole request, before it goes on."""
    body = flow.request.content
    if body:
        flow.request.content = _TOKEN.sub(DIGITS, body)  # which corrects the length, too
