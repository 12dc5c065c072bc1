"""The profile, its files, the key, the database, and the room on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from learnae.cli.doctor.facts import Facts
from learnae.cli.doctor.verdict import Verdict, fail, ok, skip, warn

KEY_FILE = "identity.key"
KEY_BYTES = 32
LITTLE = 1024**3
"""Below so many free bytes of disk the user is warned."""
FULL = 64 * 1024**2
"""Below so many, nothing can be relied upon."""


def profile(facts: Facts) -> Iterator[Verdict]:
    """The profile directory can be read and written."""
    own = facts.file(".")
    remedy = "make it yours and writable, or say another --home"
    if facts.profile_error is not None:
        yield fail("profile", f"{facts.profile} cannot be read: {facts.profile_error}", remedy)
    elif not facts.exists:
        yield skip("profile", f"{facts.profile} is not there yet: the first start makes it")
    elif own is not None and not own.writable:
        yield fail("profile", f"{facts.profile} cannot be written by this user", remedy)
    elif own is not None and own.owner is not None:
        yield _foreign("profile", str(facts.profile), own.owner)
    else:
        yield ok("profile", f"{facts.profile}")


def files(facts: Facts) -> Iterator[Verdict]:
    """Each file in it is this user's, and can be read and written."""
    inside = [file for file in facts.files if file.name != "."]
    sound = True
    for file in inside:
        path = facts.profile / file.name
        if not (file.readable and file.writable):
            sound = False
            verb = "read" if not file.readable else "written"
            yield fail("files", f"{path} cannot be {verb} by this user", f"give it back: chmod u+rw {path}")
        elif file.owner is not None:
            sound = False
            yield _foreign("files", str(path), file.owner)
    if inside and sound:
        yield ok("files", f"{len(inside)} files and directories, all yours")


def _foreign(check: str, path: str, owner: str) -> Verdict:
    return fail(
        check,
        f"{path} belongs to {owner}: a daemon was once started as another user (with sudo?)",
        f"take it back: sudo chown -R $(id -u) {path}; and never run learnaed with sudo",
    )


def key(facts: Facts) -> Iterator[Verdict]:
    """The key is whole, and nobody else can read it."""
    file, path = facts.file(KEY_FILE), facts.profile / KEY_FILE
    token = facts.file("token")
    if file is None:
        yield skip("key", "there is none yet: the first start makes one")
        return
    if facts.key_bytes is not None and facts.key_bytes != KEY_BYTES:
        yield fail(
            "key",
            f"{path} has {facts.key_bytes} bytes, a key has {KEY_BYTES}: it is damaged",
            "restore it from a backup, or move it away to go on under a new identity",
        )
    elif facts.system != "win32" and file.mode & 0o077:
        yield fail(
            "key",
            f"{path} has mode {file.mode:04o}: other users of this PC may read it and sign in this node's name",
            f"chmod 600 {path}; if somebody may have read it, move it away, and a new one is made",
        )
    elif facts.system != "win32" and token is not None and token.mode & 0o077:
        yield fail(
            "key",
            f"{facts.profile / 'token'} has mode {token.mode:04o}: other users of this PC may steer the daemon",
            f"chmod 600 {facts.profile / 'token'}, and restart the daemon, which makes a new one",
        )
    else:
        yield ok("key", f"{KEY_FILE} is whole" + ("" if facts.system == "win32" else f", mode {file.mode:04o}"))


def database(facts: Facts) -> Iterator[Verdict]:
    """The ledger is sound, and none was set aside."""
    found = facts.database
    if found is None:
        yield skip("database", "there is none yet")
        return
    if found.verdict not in (None, "ok"):
        yield fail(
            "database",
            f"{facts.profile / 'ledger.sqlite'} is damaged: {found.verdict}",
            "start the daemon: it sets the file aside, and updates come back from the peers; have the disk checked",
        )
    elif found.aside is not None:
        moment = datetime.fromtimestamp(found.aside_since)
        yield warn(
            "database",
            f"one was damaged and set aside as {found.aside.name} (last written {moment:%Y-%m-%d %H:%M})",
            f"have the disk checked if it happens again; then delete {found.aside}",
        )
    else:
        yield ok("database", "sound" if found.verdict else "in use by the daemon, which reports no damage")


def room(facts: Facts) -> Iterator[Verdict]:
    """There is room on the disk, and it can be written."""
    found = facts.disk
    if found is None:
        yield skip("disk", f"no directory above {facts.profile} exists")
        return
    text = f"{size(found.free)} of {size(found.total)} free"
    remedy = "make room, keep less (--snapshot-cap), or move the profile to another disk (--home)"
    if found.inodes == 0:
        yield fail("disk", "no more files can be made on it: all its inodes are used", remedy)
    elif found.free < min(FULL, found.total // 20):
        yield fail("disk", f"full: {text}; nothing is published while the database cannot be written", remedy)
    elif found.trial is not None:
        yield fail("disk", f"a trial file could not be written: {found.trial} ({text})", remedy)
    elif found.free < min(LITTLE, found.total // 10):
        yield warn("disk", f"nearly full: {text}", remedy)
    else:
        yield ok("disk", text)


def size(count: int) -> str:
    """Bytes for people.

    >>> size(1_500_000)
    '1.5 MB'
    """
    value, units = float(count), ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.1f} {units[0]}" if units[0] != "bytes" else f"{count} bytes"
