"""Frames between daemon and trainer: identity, and streams that are cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae import protocol
from learnae.errors import TrainerError

MESSAGES: list[protocol.TrainerMessage] = [
    protocol.Setup(bytes(32), "topic", "digits", None, "1/2", 0.3, 1, None, "/tmp"),
    protocol.Add(bytes(32), 3, 100, [b"a", b"b"]),
    protocol.Accepted(bytes(32), 4),
    protocol.SetMode("train"),
    protocol.SetShare(0.25),
    protocol.Evaluate(),
    protocol.RoundDone([b"part"], 5, 0.5, 1.5, None, 2),
    protocol.Report(1, 2, 3, 4.0, 5.0, None, {"accuracy": 0.5}, {}, bytes(32), [], final=True),
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
