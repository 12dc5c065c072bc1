"""DAG-CBOR: the bytes and CIDs that other implementations make, one encoding for each value, nothing else let in."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from learnae import dagcbor
from learnae.cid import DAG_CBOR, DAG_PB, RAW, make_cid, to_text
from learnae.dagcbor import Link
from learnae.errors import WireError

# From the fixtures of IPLD (ipld/codec-fixtures), which several implementations are tested against: CID and bytes.
FIXTURES = {
    "array-mixed": (
        "bafyreidufmzzejc3p7gmh6ivp4fjvca5jfazk57nu6vdkvki4c4vpja724",
        "8c1b0016db6db6db6db71a000100001901f40200202238ff3aa5f702b33b0016db6db6db6db74261316fc48c6175657320c39f76c49b746521",
    ),
    "array-5-nested": (
        "bafyreihmxfmn5wcpzpiqa6zfefgabxmd2jzr2bd4y2v7c2ss4plkgkabgq",
        "8265617272617982626f66820582666e657374656482666172726179736121",
    ),
    "bytes-a1": (
        "bafyreidfn5bivgcww7slkgp7f5iiukoggxr542m4pzl3zn3oia7ozt7ffe",
        "41a1",
    ),
    "bytes-empty": (
        "bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4kok6gl47quzvy",
        "40",
    ),
    "cid-raw": (
        "bafyreic3yrxqeqgoi24fo3h43nfkfs4cntcx243g3lzv3n2hnmcm5ksnzu",
        "d82a5825000155122081cc5b17018674b401b42f35ba07bb79e211239c23bffe658da1577e3e646877",
    ),
    "cid-dag-cbor": (
        "bafyreihfnilmqbnwzcmqrspmmyik5qdocjdrf3rnkuxb2aanrh2qycf6wy",
        "d82a5825000171122069ea0740f9807a28f4d932c62e7c1c83be055e55072c90266ab3e79df63a365b",
    ),
    "cid-dag-pb": (
        "bafyreicrcxd4oefvax3uw7gshyen7bbj2vno3drylsnp3int5p6wdesoqq",
        "d82a582500017012207252523e6591fb8fe553d67ff55a86f84044b46a3e4176e10c58fa529a4aabd5",
    ),
    "float--0.5": (
        "bafyreidgf3tgrdkimspjianeb4i2ilrhwrd72drroivhom32cegkxisoay",
        "fbbfe0000000000000",
    ),
    "float-0.5": (
        "bafyreifwqkffcpzsyfigri7xm2kaf6bz7si5stsnf46jep5w5we7ngmgma",
        "fb3fe0000000000000",
    ),
    "float-1e-323": (
        "bafyreib6bigeneyagim45hjjzzn3ggyuthejspqqccplri2pmmek5bz2uq",
        "fb0000000000000002",
    ),
    "float-array_of_specials": (
        "bafyreibqkv642umtthvkk4siz2x27eqwugyitsjsgbc65ffmtajiag4b64",
        "8501f5f4f620",
    ),
    "int-18446744073709551615": (
        "bafyreibnpsyje7iwfx3smzlnofkxqdyeqz3a4qzhwu33ktibq7sxeckrpq",
        "1bffffffffffffffff",
    ),
    "int--11959030306112471732": (
        "bafyreieir43khjzemsmgahaozab2vjvtdxavszixhhurvdqg2xkhrwinyi",
        "3ba5f702b3a5f702b3",
    ),
    "int--9223372036854775808": (
        "bafyreidh4mvwi7pnv62beigtnibakkxpsgjzua5g7kdvu2deltah6kigay",
        "3b7fffffffffffffff",
    ),
    "int-0": (
        "bafyreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu",
        "00",
    ),
    "map-keysort": (
        "bafyreifzcy56s5jog3scrc7c3rlaohrwu3recxgf5c7fddfjlnlhh6p6p4",
        "a9616601626565026364646403646363636304656262626262056661616161616106666161616161620766616161616163086661616161626209",
    ),
    "map-nested": (
        "bafyreib7zq4mhl7fwtmftjn7d7mmlwf6gi32vimlsjkn25w2e5xlhz2deu",
        "a1666f626a656374a16477697468a26134666e6573746564676f626a65637473a161216121",
    ),
    "map-empty": (
        "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua",
        "a0",
    ),
    "null": (
        "bafyreifqwkmiw256ojf2zws6tzjeonw6bpd5vza4i22ccpcq4hjv2ts7cm",
        "f6",
    ),
    "true": (
        "bafyreibhvppn37ufanewvxvwendgzksh3jpwhk6sxrx2dh3m7s3t5t7noa",
        "f5",
    ),
    "false": (
        "bafyreibac77tiyjzkzzkucve6zejj7jpswslcihcnehisulfnv423qxo2i",
        "f4",
    ),
    "string-Hello world!": (
        "bafyreigmgu7icw3p3lf3prtti7x3o7vsc6e5peltjinsa7zni2axvlz5cm",
        "6c48656c6c6f20776f726c6421",
    ),
    "string-empty": (
        "bafyreiengp2sbi6ez34a2jctv34bwyjl7yoliteleaswgcwtqzrhmpyt2m",
        "60",
    ),
    "dagpb_Data_some": (
        "bafyreieculsmrexh3ty5jentbvuku452o27mst4h2tq2rb2zntqhgcstji",
        "a26444617461450001020304654c696e6b7380",
    ),
}
VALUES: dict[str, Any] = {
    "bytes-a1": b"\xa1",
    "float--0.5": -0.5,
    "float-1e-323": 1e-323,
    "float-array_of_specials": [1, True, False, None, -1],
    "int-18446744073709551615": 2**64 - 1,
    "null": None,
    "string-Hello world!": "Hello world!",
}


@pytest.mark.parametrize(("text", "data"), FIXTURES.values(), ids=FIXTURES)
def test_what_others_encoded(text: str, data: str) -> None:
    block = bytes.fromhex(data)
    value = dagcbor.decode(block, len(block))
    assert dagcbor.encode(value) == block
    assert to_text(make_cid(DAG_CBOR, block)) == text
    with pytest.raises(WireError, match="at most"):
        dagcbor.decode(block, len(block) - 1)


@pytest.mark.parametrize("name", VALUES)
def test_the_values_are_what_they_encoded(name: str) -> None:
    value = dagcbor.decode(bytes.fromhex(FIXTURES[name][1]), 1000)
    assert value == VALUES[name] and type(value) is type(VALUES[name])


def test_links() -> None:
    for name, codec in (("cid-raw", RAW), ("cid-dag-cbor", DAG_CBOR), ("cid-dag-pb", DAG_PB)):
        link = dagcbor.decode(bytes.fromhex(FIXTURES[name][1]), 1000)
        assert isinstance(link, Link) and link.cid[1] == codec


CIDS = st.builds(make_cid, st.sampled_from([RAW, DAG_PB, DAG_CBOR]), st.binary(max_size=8))
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.binary(),
    CIDS.map(Link),
)
TREES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(TREES)
def test_a_value_comes_back_and_its_bytes_too(value: Any) -> None:
    block = dagcbor.encode(value)
    back = dagcbor.decode(block, len(block))
    assert back == value
    assert dagcbor.encode(back) == block


@given(st.dictionaries(st.text(), st.integers()), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(value: dict[str, int], rng: Any) -> None:
    value = {key: number for key, number in value.items() if -(2**64) <= number < 2**64}
    keys = list(value)
    rng.shuffle(keys)
    block = dagcbor.encode({key: value[key] for key in keys})
    assert block == dagcbor.encode(value)
    written = [key.encode() for key in dagcbor.decode(block, len(block))]
    assert written == sorted(written, key=lambda key: (len(key), key))


@given(st.binary())
@example(b"\xd8\x2a\x40")
@example(b"\xc2\x41\x01")
@example(b"\x81" * 3000 + b"\0")
@example(b"\x9b" + b"\xff" * 8)
def test_garbage_is_a_value_or_refused(data: bytes) -> None:
    try:
        value = dagcbor.decode(data, 10_000)
    except WireError:
        return
    assert dagcbor.encode(value) == data


@given(TREES, st.integers(0), st.integers(0, 255))
def test_a_changed_block_is_another_value_or_refused(value: Any, at: int, byte: int) -> None:
    block = bytearray(dagcbor.encode(value))
    block[at % len(block)] = byte
    try:
        changed = dagcbor.decode(bytes(block), len(block))
    except WireError:
        return
    assert dagcbor.encode(changed) == block


LINK = b"\0" + make_cid(RAW, b"")
WRONG = {
    "nothing": b"",
    "two values": b"\0\0",
    "cut off": b"\x82\0",
    "equal keys (ipld/codec-fixtures)": bytes.fromhex("a3636261720363666f6f0163666f6f02"),
    "keys out of order": b"\xa2\x62aa\0\x61b\0",
    "keys in the order of bytes": b"\xa2\x61b\0\x61a\0",
    "a key that is no string": b"\xa1\0\0",
    "a key of bytes": b"\xa1\x41a\0",
    "a long integer": b"\x18\x17",
    "a longer integer": b"\x19\0\xff",
    "a long length": b"\x58\x01a",
    "a half float": b"\xf9\x3c\0",
    "a single float": b"\xfa" + struct.pack(">f", 0.5),
    "not a number": b"\xfb" + struct.pack(">d", math.nan),
    "infinite": b"\xfb" + struct.pack(">d", -math.inf),
    "half infinite": b"\xf9\x7c\0",
    "undefined": b"\xf7",
    "a simple value": b"\xe0",
    "a long simple value": b"\xf8\x20",
    "an endless list": b"\x9f\0\xff",
    "an endless map": b"\xbf\xff",
    "an endless string": b"\x7f\x61a\xff",
    "a break": b"\xff",
    "a large integer": b"\xc2\x49" + b"\1" * 9,
    "a date": b"\xc1\0",
    "self-described": b"\xd9\xd9\xf7\0",
    "a link of text": b"\xd8\x2a\x61a",
    "a link without its zero": b"\xd8\x2a\x58\x24" + LINK[1:],
    "a link to another hash": b"\xd8\x2a\x58\x25" + LINK[:3] + b"\x13" + LINK[4:],
    "a link in a long tag": b"\xd9\0\x2a\x58\x25" + LINK,
    "not UTF-8": b"\x61\xff",
    "a surrogate": b"\x63\xed\xa0\x80",
    "too deep": b"\x81" * (dagcbor.MAX_DEPTH + 1) + b"\0",
}


@pytest.mark.parametrize("block", WRONG.values(), ids=WRONG)
def test_what_is_not_the_one_encoding_is_refused(block: bytes) -> None:
    with pytest.raises(WireError):
        dagcbor.decode(block, 10_000)


def test_the_depth_is_the_same_for_both_ways() -> None:
    value: Any = 0
    for _ in range(dagcbor.MAX_DEPTH):
        value = [value]
    assert dagcbor.decode(dagcbor.encode(value), 1000) == value
    with pytest.raises(WireError, match="inside each other"):
        dagcbor.encode([value])


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        2**64,
        -(2**64) - 1,
        {1: 2},
        {b"a": 1},
        {1, 2},
        object(),
        Link(b"no"),
        [object()],
        1j,
        "\ud800",
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_it_cannot_hold_is_not_encoded(value: object) -> None:
    with pytest.raises(WireError):
        dagcbor.encode(value)
