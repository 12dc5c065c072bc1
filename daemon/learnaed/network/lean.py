"""Imports the part of libp2p that learnae uses, and nothing else; the first import of this package.

`import libp2p` loads every transport, discovery and key type it has: QUIC, WebTransport, WebSocket, WebRTC, TLS with
an ACME client, UPnP, DNS, RSA. None is used here. Without them the daemon starts 0.7 s earlier and is 30 MB smaller
(85 MB against 54 MB resident). Their modules are replaced by stand-ins which satisfy the `import` statements in
libp2p, and whose use raises NetworkError. Nothing is replaced where libp2p was imported before.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from learnae.errors import NetworkError

# Packages whose submodules are used, but whose own __init__ imports everything.
BARE = ("libp2p", "libp2p.transport")
ABSENT = (
    "libp2p.crypto.ecc",
    "libp2p.crypto.rsa",
    "libp2p.crypto.secp256k1",
    "libp2p.discovery",
    "libp2p.observability",
    "libp2p.relay",
    "libp2p.security.pnet",
    "libp2p.security.tls",
    "libp2p.transport.quic",
    "libp2p.transport.webrtc",
    "libp2p.transport.websocket",
    "libp2p.transport.webtransport",
    "multiaddr.resolvers",
)


def _missing(name: str) -> NetworkError:
    return NetworkError(f"{name} is not used by learnae and was not loaded (see learnaed.network.lean)")


class _AbsentType(type):
    """A class standing in for one that is not loaded. It can be named, compared and instantiated; nothing else."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise _missing(f"{cls.__name__}.{name}")

        return refuse


class _Absent:
    """Base of the stand-ins: an instance is an empty box."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise _missing(f"{type(self).__name__}.{name}")


class _AbsentModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value: Any
        if name.isupper():
            value = name
        elif name.endswith(("Error", "Exception", "Failure")):  # stands in `except` clauses, is never raised
            value = type(name, (Exception,), {})
        else:
            value = _AbsentType(f"{self.__name__}.{name}", (_Absent,), {})
        setattr(self, name, value)
        return value


class _BareModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{self.__name__}.{name} was not loaded: learnaed.network imports only parts of libp2p")


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if any(fullname == name or fullname.startswith(name + ".") for name in ABSENT):
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _AbsentModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to execute."""


def install() -> None:
    """Put the stand-ins in place, unless libp2p is loaded already or not installed at all."""
    if "libp2p" in sys.modules:
        return
    spec = find_spec("libp2p")
    if spec is None or spec.submodule_search_locations is None:
        raise NetworkError("libp2p is not installed: pip install libp2p==0.8.1", code="libp2p-version")
    [root] = spec.submodule_search_locations
    for name in BARE:
        module = _BareModule(name)
        module.__path__ = ["/".join([root, *name.split(".")[1:]])]
        sys.modules[name] = module
    sys.modules["libp2p"].transport = sys.modules["libp2p.transport"]  # type: ignore[attr-defined]
    sys.meta_path.insert(0, _Finder())


install()
