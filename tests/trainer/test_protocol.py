"""Frames between daemon and trainer: identity, and streams that are cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae import protocol
from learnae.errors import TrainerError

MESSAGES: list[protocol.TrainerMessage] = [
    protocol.Setup(bytes(32), "topic", "digits", None, "1/2", 0.3, 1, None, "state", "blocks"),
    protocol.Add(bytes(32), 3, b"d" * 32, 17, 100, 0.5, 65536, 2),
    protocol.Piece(b"a" * 300),
    protocol.Remove(bytes(32), 3, b"d" * 32, 100, 2),
    protocol.Accepted(bytes(32), 4, b"d" * 32, 18, 32768),
    protocol.Accepted(bytes(32), 4, b"d" * 32, 18, None),
    protocol.TakeCut(7, 2, 1),
    protocol.Without(bytes(32), 3, b"d" * 32, 2),
    protocol.Forget(40, bytes(36), bytes(32)),
    protocol.Load(bytes(36), None, bytes(32), 10**6),
    protocol.SetMode("train"),
    protocol.SetShare(0.25),
    protocol.Evaluate(),
    protocol.RoundDone([b"part"], 5, 0.5, 1.5, None, 2, 0),
    protocol.Report(1, 2, 3, 4.0, 5.0, None, {"accuracy": 0.5}, {}, bytes(32), [], 0.8, 0.1, 1, final=True),
    protocol.Hello([], None, bytes(32), [[bytes(32), 1, b"d" * 32, 4, 65536]], 3, 5, 0, 2),
    protocol.CutTaken(7, 2, bytes(36), 1000),
    protocol.Failed("why", "where", fatal=True),
    protocol.Stop(),
]


@given(st.data())
def test_messages_survive_any_cut_of_the_stream(data: st.DataObject) -> None:
    stream = b"".join(map(protocol.to_frame, MESSAGES))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    reader = protocol.FrameReader()
    heard = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        heard += list(reader.feed(stream[start:stop]))
    assert heard == MESSAGES


@pytest.mark.parametrize("data", [b"\xff" * 8, b"\x01\0\0\0\xff", b"\x02\0\0\0\x81\x01", b"\x06\0\0\0\x81\x64Nope"])
def test_another_protocol_is_noticed(data: bytes) -> None:
    with pytest.raises(TrainerError):
        list(protocol.FrameReader().feed(data))
