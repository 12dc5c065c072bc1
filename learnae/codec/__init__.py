"""The codec: from a pseudo-gradient to the parts of an update, and back; used by the learner and by tests.

`Encoder` keeps what one node has still to say (momentum and error feedback); `Payload` gathers the parts of anybody's
update and checks them; `encode_part` and `decode_part` are the wire format, written down in ``docs/spec/update.md``.
"""

from learnae.codec.encoder import CodecSettings, Encoded, Encoder, EncoderStatistics
from learnae.codec.norm import chunk_exponents, root_up, squared_norm
from learnae.codec.part import PART_LIMIT, Part, decode_part, encode_part
from learnae.codec.payload import Payload

__all__ = [
    "PART_LIMIT",
    "CodecSettings",
    "Encoded",
    "Encoder",
    "EncoderStatistics",
    "Part",
    "Payload",
    "chunk_exponents",
    "decode_part",
    "encode_part",
    "root_up",
    "squared_norm",
]
