"""The codec: from a pseudo-gradient to the parts of an update, and back; used by the learner and by tests.

`Encoder` keeps what one node has still to say (momentum and error feedback); `encode_part` and `decode_part` are the
wire format, written down in ``docs/spec/update.md``.
"""

from learnae.codec.encoder import CodecSettings, Encoder, EncoderStatistics
from learnae.codec.part import PART_LIMIT, Sparse, decode_part, encode_part

__all__ = ["PART_LIMIT", "CodecSettings", "Encoder", "EncoderStatistics", "Sparse", "decode_part", "encode_part"]
