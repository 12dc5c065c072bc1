"""Where a script on this PC finds the daemon that waits for it, and how both prove that they are one user's.

The daemon writes the address and a secret into its profile, readable by its user alone. On the connection either side
shows that it has read that file without showing the secret: whoever has taken over the port learns nothing. Used by
the daemon's attached trainer and by `learnae.loop`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

DOOR_FILE: Final = "trainer.json"
GREETING: Final = b"learnae trainer 1\n"
NONCE: Final = 32
PROOF: Final = 32
TETHER: Final = "LEARNAED_TETHER"
"""Variable of a daemon that is to end with the script which started it: that process's id, a dash, any text."""


@dataclass(frozen=True, slots=True)
class Door:
    """The content of a profile's `DOOR_FILE`."""

    port: int
    """On loopback."""
    secret: str
    pid: int
    """The daemon's."""
    topic: str
    tether: str | None = None
    """What `TETHER` says, for a daemon that serves one script alone."""

    @classmethod
    def open(cls, port: int, pid: int, topic: str, tether: str | None) -> Self:
        """A door with a new secret."""
        return cls(port, secrets.token_hex(32), pid, topic, tether)

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """The door in a profile's directory; None where there is none."""
        try:
            content: dict[str, Any] = json.loads((directory / DOOR_FILE).read_text(encoding="utf-8"))
            door = cls(**content)
            bytes.fromhex(door.secret)
        except (OSError, ValueError, TypeError):
            return None
        return door if 0 < door.port < 65536 else None

    def text(self) -> str:
        """What to write into the file."""
        return json.dumps(asdict(self))

    def proof(self, side: str, challenges: bytes) -> bytes:
        """What only somebody who has read the file can say; ``challenges``: the daemon's nonce, then the script's."""
        return hmac.digest(bytes.fromhex(self.secret), side.encode() + b"\0" + challenges, hashlib.sha256)

    def accepts(self, proof: bytes, side: str, challenges: bytes) -> bool:
        """Whether that is the other side's proof."""
        return hmac.compare_digest(proof, self.proof(side, challenges))
