"""WebSocket frames (RFC 6455, section 5) as far as the bench's own clients need them."""

from __future__ import annotations

from bench.children import ChildError

TEXT, CLOSE = 1, 8


def text_frame(text: bytes) -> bytes:
    """A client's frame; the mask of zeroes is allowed, and it spares the work of masking."""
    assert len(text) < 65536
    size = len(text)
    head = bytes([0x80 | TEXT, 0x80 | size]) if size < 126 else bytes([0x80 | TEXT, 0xFE]) + size.to_bytes(2, "big")
    return head + bytes(4) + text


def frames(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole text frames of a server, which neither masks nor splits them, and what is left; raises ChildError."""
    found = []
    at, size = 0, len(data)
    while size - at >= 2:
        length, head = data[at + 1] & 127, 2
        if length == 126:
            length, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
        elif length == 127:
            length, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
        end = at + head + length
        if size - at < head or end > size:
            break
        opcode = data[at] & 15
        if opcode == CLOSE:
            raise ChildError("the server closed a socket")
        if opcode == TEXT:
            found.append(data[at + head : end])
        at = end
    return found, data[at:]
