"""CIDs: binary and text forms are the ones that everybody uses, and nothing else passes."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae import cid
from learnae.cid import DAG_CBOR, DAG_PB, RAW
from learnae.errors import WireError

CODECS = st.sampled_from([RAW, DAG_PB, DAG_CBOR])


@pytest.mark.parametrize(
    ("codec", "block", "text"),
    [
        (RAW, b"", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        (RAW, b"hello", "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"),
        (DAG_CBOR, b"\xa0", "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"),
    ],
)
def test_cids_known_to_the_world(codec: int, block: bytes, text: str) -> None:
    assert cid.to_text(cid.make_cid(codec, block)) == text
    assert cid.from_text(text) == cid.make_cid(codec, block)


@given(CODECS, st.binary())
def test_parts_of_a_cid(codec: int, block: bytes) -> None:
    made = cid.make_cid(codec, block)
    assert len(made) == cid.CID_BYTES and cid.is_cid(made)
    assert cid.codec_of(made) == codec
    assert cid.digest_of(made) == hashlib.sha256(block).digest()
    assert cid.cid_of(codec, cid.digest_of(made)) == made
    assert cid.from_text(cid.to_text(made)) == made
    assert cid.is_raw_cid(made) == (codec == RAW) == (made == cid.raw_cid(block))


@given(st.binary(max_size=50))
def test_other_bytes_are_no_cid(data: bytes) -> None:
    assert not cid.is_cid(data)
    for take in (cid.codec_of, cid.digest_of, cid.to_text):
        with pytest.raises(WireError):
            take(data)


@pytest.mark.parametrize("prefix", ["01701220", "01551220"])
def test_length_codec_version_and_hash_count(prefix: str) -> None:
    good = bytes.fromhex(prefix) + bytes(32)
    assert cid.is_cid(good)
    for at, wrong in ((0, 0), (1, 0x72), (2, 0x13), (3, 0x1F)):
        assert not cid.is_cid(good[:at] + bytes([wrong]) + good[at + 1 :])
    assert not cid.is_cid(good[:-1]) and not cid.is_cid(good + b"\0")


def test_only_three_codecs_can_be_made() -> None:
    with pytest.raises(ValueError, match="0x72"):
        cid.make_cid(0x72, b"")
    with pytest.raises(ValueError, match="31 bytes"):
        cid.cid_of(RAW, bytes(31))


def test_the_old_version_gets_advice() -> None:
    with pytest.raises(WireError, match=r"version 0.*--cid-version=1"):
        cid.from_text("QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n")


GOOD = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"


@pytest.mark.parametrize(
    "text",
    [
        *("", "b", "bä", "b1", GOOD.upper(), GOOD[:-1], GOOD + "a", GOOD[:-1] + "v", GOOD[:-1] + "="),
        *(" " + GOOD, "/ipfs/" + GOOD, "z" + GOOD[1:]),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(WireError, match="begin with 'baf'"):
        cid.from_text(text)


@given(st.text())
def test_any_text_is_a_cid_or_refused(text: str) -> None:
    with pytest.raises(WireError):
        cid.from_text(text)
    with pytest.raises(WireError):
        cid.from_text("b" + text)
