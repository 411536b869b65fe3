"""The head of an answer goes out with the first of its body, and nothing else changes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.http.joined_heads import JoinedHeads

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
pieces = st.lists(st.one_of(st.just(HEAD), st.binary(min_size=1, max_size=20), st.none()), max_size=12)


class Wire(asyncio.Transport):
    """What is written, a piece for each system call."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.ended = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended
        self.written.append(bytes(data))

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def get_write_buffer_size(self) -> int:
        return 0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@given(pieces)
@settings(max_examples=50, deadline=None)
def test_the_bytes_and_their_order_are_those_that_were_written(written: list[bytes | None]) -> None:
    """``None`` is a round of the loop."""

    async def write() -> list[bytes]:
        wire = Wire()
        joined = JoinedHeads(wire, asyncio.get_running_loop())
        so_far = b""
        for piece in written:
            if piece is None:
                await asyncio.sleep(0)
                assert b"".join(wire.written) == so_far  # nothing is held for longer than a round
            else:
                joined.write(piece)
                so_far += piece
                assert len(b"".join(wire.written)) + joined.get_write_buffer_size() == len(so_far)
        joined.close()
        assert wire.ended == "closed"
        return wire.written

    assert b"".join(asyncio.run(write())) == b"".join(piece for piece in written if piece is not None)


@pytest.mark.anyio
async def test_a_head_goes_out_with_what_follows_in_one_write() -> None:
    wire = Wire()
    joined = JoinedHeads(wire, asyncio.get_running_loop())
    joined.write(HEAD)
    joined.write(b"body")
    joined.write(b"more")
    await asyncio.sleep(0)
    assert wire.written == [HEAD + b"body", b"more"]


@pytest.mark.anyio
async def test_nothing_is_written_to_a_connection_that_was_broken_off() -> None:
    wire = Wire()
    joined = JoinedHeads(wire, asyncio.get_running_loop())
    joined.write(HEAD)
    joined.abort()
    await asyncio.sleep(0)
    assert (wire.written, wire.ended) == ([], "aborted")
