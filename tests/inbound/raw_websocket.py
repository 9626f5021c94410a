"""WebSocket frames by hand (RFC 6455): what a merchant's application needs to echo, and a client.

What lives here: the handshake's answer and one frame at a time, in plain bytes. What never may:
a socket.
"""

import base64
import hashlib
import struct
from dataclasses import dataclass
from typing import Final

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True)
class Frame:
    """One frame, unmasked."""

    kind: int
    payload: bytes
    final: bool = True


def accepting(key: bytes, protocol: bytes | None = None) -> bytes:
    """Answer a handshake."""
    proof = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    chosen = b"" if protocol is None else b"Sec-WebSocket-Protocol: " + protocol + b"\r\n"
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + proof + b"\r\n" + chosen + b"\r\n"
    )


def take_frame(buffer: bytearray) -> Frame | None:
    """Take a whole frame off the front of `buffer`, if there is one."""
    if len(buffer) < 2:
        return None
    first, second = buffer[0], buffer[1]
    length, at = second & 0x7F, 2
    if length >= 126:
        wide = 2 if length == 126 else 8
        if len(buffer) < at + wide:
            return None
        length, at = int.from_bytes(buffer[at : at + wide]), at + wide
    masked = second >> 7
    end = at + 4 * masked + length
    if len(buffer) < end:
        return None
    payload = bytes(buffer[at + 4 * masked : end])
    if masked:
        payload = _masked(payload, bytes(buffer[at : at + 4]))
    del buffer[:end]
    return Frame(first & 0x0F, payload, bool(first & 0x80))


def frame(kind: int, payload: bytes, *, mask: bytes | None = None) -> bytes:
    """Write a frame; a client's is masked."""
    masked = 0x80 if mask is not None else 0
    length = len(payload)
    if length < 126:
        head = struct.pack(">BB", 0x80 | kind, masked | length)
    elif length < 1 << 16:
        head = struct.pack(">BBH", 0x80 | kind, masked | 126, length)
    else:
        head = struct.pack(">BBQ", 0x80 | kind, masked | 127, length)
    return head + (payload if mask is None else mask + _masked(payload, mask))


def _masked(payload: bytes, mask: bytes) -> bytes:
    long = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(long)).to_bytes(len(payload))
