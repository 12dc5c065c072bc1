"""Which weights a swarm began with here, for a script whose model begins with other ones each time; used by `Swarm`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import cbor2

from learnae import cbor
from learnae.errors import LearnaeError
from learnae.genesis import Genesis

_FILE = "origin.cbor"


@dataclass(frozen=True)
class Start:
    """A genesis and the digest of its replica, and where the state of its swarm lies below ``directory``."""

    directory: Path
    topic: str
    genesis: Genesis
    digest: bytes

    @property
    def path(self) -> Path:
        """A swarm has a directory of its own."""
        return self.directory / self.genesis.swarm_id(self.topic).hex()[:16]

    def found(self) -> Start:
        """The start that was kept last for this topic and model, whatever its weights; this one if there is none."""
        kept = [start for start in self._kept() if start.genesis.differs_only_in_weights(self.genesis)]
        return max(kept, key=lambda start: (start.path / _FILE).stat().st_mtime_ns, default=self)

    def keep(self) -> None:
        """Remember it. Raises nothing: without it, a restart begins with the weights that the model has then."""
        with suppress(OSError):
            self.path.mkdir(parents=True, exist_ok=True)
            draft = self.path / f"{_FILE}.new"
            draft.write_bytes(cbor.encode([self.topic, self.genesis.to_wire(), self.digest]))
            draft.replace(self.path / _FILE)

    def _kept(self) -> Iterator[Start]:
        for file in self.directory.glob(f"*/{_FILE}"):
            with suppress(OSError, ValueError, TypeError, cbor2.CBORError, LearnaeError):
                topic, genesis, digest = cbor2.loads(file.read_bytes())
                start = replace(self, genesis=Genesis.from_wire(genesis), digest=bytes(digest))
                if topic == self.topic and start.path == file.parent:
                    yield start
