"""Takes secrets, addresses and the user's name out of texts; used by `collection`."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from learnae.errors import StoreError

_ADDRESS = re.compile(
    r"(?<![\w.])(?<!==)\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)"  # behind "==" it is a version
    r"|(?<![\w:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])"
)
_SECRET_LINE = re.compile(r"""(?im)^(\s*["']?[\w.-]*(?:secret|token|passphrase|password)[\w.-]*["']?\s*[=:]\s*).*$""")
_SHORTEST = 6


@dataclass(frozen=True, slots=True)
class RedactionStatistics:
    """How many addresses got another name, and how often a secret was taken out."""

    addresses: int
    secrets: int


class Redactor:
    """Rewrites texts so that they can be shown to others; the same address gets the same name everywhere.

    ``secrets``: what must not appear, as bytes; their hex and base64 forms neither. ``home``: the user's directory,
    which often has their name in it. ``addresses``: keep IP addresses as they are.
    """

    def __init__(self, secrets: Iterable[bytes], home: Path, *, addresses: bool = False) -> None:
        self._forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
        self._home = str(home)
        self._keep = addresses
        self._names: dict[str, str] = {}
        self._removed = 0

    def text(self, text: str) -> str:
        """The text without them."""
        for form in self._forms:
            self._removed += text.count(form)
            text = text.replace(form, "[secret]")
        text = _SECRET_LINE.sub(r"\1[secret]", text)
        if len(self._home) > 1:
            text = text.replace(self._home, "~")
        return text if self._keep else _ADDRESS.sub(lambda match: self._renamed(match[0]), text)

    def check(self, name: str, data: bytes) -> None:
        """Raise `StoreError` if a secret is in there in spite of all: then nothing is written."""
        if any(form.encode() in data for form in self._forms):
            raise StoreError(f"{name} would hold a secret of this node, so no bundle was written. Report this, please.")

    def statistics(self) -> RedactionStatistics:
        """Totals."""
        return RedactionStatistics(len(self._names), self._removed)

    def _renamed(self, found: str) -> str:
        try:
            address = ipaddress.ip_address(found)
        except ValueError:
            return found
        if address.is_loopback or address.is_unspecified or address.is_multicast:
            return found
        kind = "public" if address.is_global else "private"
        return self._names.setdefault(str(address), f"{kind}-{address.version}-{len(self._names) + 1}")


def _forms(secret: bytes) -> list[str]:
    secret = secret.strip()
    if len(secret) < _SHORTEST:
        return []
    encoded = (base64.b64encode(secret), base64.urlsafe_b64encode(secret))
    forms = [secret.hex(), *(text.decode().rstrip("=") for text in encoded)]
    with contextlib.suppress(UnicodeDecodeError):  # a key is no text
        forms.append(secret.decode())
    return forms
