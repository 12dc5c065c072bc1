"""The node's identity: one Ed25519 key in a private file; the author of its updates and its libp2p peer id."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from learnae.errors import ConfigError, StoreError, disk_code
from learnae.peer import KEY_BYTES, peer_id


@dataclass(frozen=True, slots=True)
class Identity:
    """A signing key, with the names that follow from it."""

    key: SigningKey

    @property
    def seed(self) -> bytes:
        """The 32 private bytes."""
        return bytes(self.key)

    @property
    def author(self) -> bytes:
        """The 32 public bytes."""
        return bytes(self.key.verify_key)

    @property
    def peer_id(self) -> str:
        """The libp2p peer id."""
        return peer_id(self.author)

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature of `data`."""
        return self.key.sign(data).signature


def load_identity(path: Path) -> Identity:
    """The identity in this file; made, with mode 0600, if there is none.

    Raises:
        ConfigError: the file is not a key. It is never overwritten: it is this node's name in every swarm.
        StoreError: the file cannot be read or written.
    """
    try:
        if not path.exists():
            return _create(path)
        if os.name == "posix" and path.stat().st_mode & 0o077:
            path.chmod(0o600)
        seed = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"cannot use the key file {path}: {error.strerror}; check its owner and the disk",
            code=disk_code(error, "key-unusable"),
        ) from error
    if len(seed) != KEY_BYTES:
        raise ConfigError(
            f"{path} has {len(seed)} bytes, a key has {KEY_BYTES}: the file is damaged. "
            "Restore it from a backup, or move it away to go on under a new identity",
            code="key-damaged",
        )
    return Identity(SigningKey(seed))


def _create(path: Path) -> Identity:
    identity = Identity(SigningKey.generate())
    # Written beside and renamed, so that a crash leaves no half a key.
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(identity.seed)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return identity
