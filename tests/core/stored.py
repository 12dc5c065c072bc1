"""What the tests of the store put into it; run as a script it writes the fixture of the present schema.

python -m tests.core.stored tests/core/fixtures/store-v3.sqlite
"""

from __future__ import annotations

import sys
from pathlib import Path

from nacl.signing import SigningKey

from learnae import wire
from learnae.cid import raw_cid
from learnae.coordinator import actions
from learnae.genesis import Genesis
from learnae.layout import Layout, TensorSpec
from learnae.ledger import Entry
from learnae.manifest import Interval, Manifest
from learnae.rules import Rules
from learnae.vector import VersionVector
from learnae.wire import CutId, Part, Signed, Update, open_envelope, seal
from learnaed.store import Change, Store

KEY, OTHER = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
AUTHOR = bytes(KEY.verify_key)
SWARM = bytes(32)
BLOCK = b"a" * 5000


def genesis() -> Genesis:
    layout = Layout((TensorSpec("weight", (4, 4), "float32"),))
    return Genesis(layout, (-24,), raw_cid(b"weights"), 1.0, 10, Rules(cut_slots=2))


def update(
    seq: int,
    blocks: tuple[bytes, ...] = (),
    *,
    slot: int | None = None,
    payload: bytes = b"inline",
    key: SigningKey = KEY,
) -> Signed[Update]:
    message = Update(
        swarm=SWARM,
        seq=seq,
        slot=seq if slot is None else slot,
        base=CutId(1, raw_cid(b"base")) if seq % 2 else None,
        samples=5,
        share=0.5,
        norm=1.0,
        loss=-0.0 if seq == 1 else 0.1,
        payload=b"" if blocks else payload,
        parts=tuple(Part(raw_cid(block), len(block)) for block in blocks),
    )
    return open_envelope(Update, seal(message, wire.signer(key), bytes(key.verify_key)))


def store(signed: Signed[Update], blocks: tuple[bytes, ...] = (), swarm: bytes = SWARM) -> actions.Store:
    return actions.Store(swarm, Entry.of(signed), signed.envelope, blocks)


def manifest(index: int, note: bytes = b"") -> Manifest:
    vector = VersionVector()
    vector.add(AUTHOR, index + 1)
    return Manifest(
        swarm=SWARM,
        index=index,
        lineage=(),
        intervals=(Interval(index, vector, 1.0, 5, None),),
        total=bytes(32),
        updates=index + 1,
        samples=5,
        weights=raw_cid(b"weights" + note),
        size=100,
    )


def cut(index: int, note: bytes = b"") -> actions.KeepCut:
    made = manifest(index, note)
    return actions.KeepCut(SWARM, made.id, made.encode())


def settle(index: int, note: bytes = b"") -> actions.Settle:
    return actions.Settle(SWARM, manifest(index, note).id)


def prune(index: int, slot: int, own_seq: int = 0) -> actions.Prune:
    return actions.Prune(SWARM, manifest(index).id, slot, own_seq, ())


def history() -> list[Change]:
    """Two updates that count, one that does not; a floor, a settled cut above it, and one that is not settled."""
    return [
        store(update(1)),
        store(update(4, (BLOCK,)), (BLOCK,)),
        store(update(5, key=OTHER)),
        store(update(6)),
        actions.Drop(SWARM, (Entry.of(update(6)),)),
        *(cut(0), settle(0), cut(1), settle(1), cut(2)),
        prune(0, 1, own_seq=9),
    ]


def main() -> None:
    path = Path(sys.argv[1])
    path.unlink(missing_ok=True)
    made = Store(path, AUTHOR)
    made.carry_out(history())
    made.remember({"12D3KooWpeer": ["/ip4/192.0.2.1/tcp/4117/p2p/12D3KooWpeer"]}, 1_700_000_000.0)
    made.close()
    path.with_suffix(".numbers").unlink()


if __name__ == "__main__":
    main()
