"""mDNS as libp2p specifies it: `_p2p._udp.local.` services with `dnsaddr=` TXT records; used by `Network`.

The multicast stays on the interfaces of the listen addresses. zeroconf runs in a thread of its own and hands what it
finds over to trio.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import trio
from zeroconf import IPVersion, RecordUpdate, RecordUpdateListener, ServiceInfo, ServiceListener, Zeroconf

from learnae.errors import WireError
from learnaed.network.addresses import Address, interface_hosts

_log = logging.getLogger(__name__)

SERVICE = "_p2p._udp.local."
_PREFIX = b"dnsaddr="
_TTL = 120
# Announced at these times (seconds after the start), then every ANNOUNCE_EVERY: nobody needs to ask again.
_FIRST_ANNOUNCEMENTS = (0.2, 1.0, 2.0, 4.0, 8.0)
_ANNOUNCE_EVERY = 30.0
_MAX_RECORDS = 16

Found = Callable[[list[Address]], None]


@dataclass(slots=True)
class MdnsFigures:
    """What multicast DNS did and heard, for the doctor. Times are Unix time."""

    interfaces: tuple[str, ...] = ()
    """Addresses of the interfaces it uses now."""
    announced: int = 0
    own_heard: int = 0
    """Own announcements that came back: the system passes multicast to us."""
    others_heard: int = 0
    """Answers of other programs and devices, learnae's or not."""
    last_heard: float | None = None
    error: str | None = None
    """Why it does not work now."""


def encode_txt(addresses: Iterable[Address]) -> bytes:
    """The TXT record: one length-prefixed `dnsaddr=` string per address, 16 at most."""
    strings = [_PREFIX + str(address).encode() for address in list(addresses)[:_MAX_RECORDS]]
    return b"".join(bytes((len(text),)) + text for text in strings if len(text) < 256)


def decode_txt(record: bytes) -> list[Address]:
    """The addresses in a TXT record from the network; what is not a TCP address with a peer id is skipped."""
    found: list[Address] = []
    position = 0
    while position < len(record) and len(found) < _MAX_RECORDS:
        text = record[position + 1 : position + 1 + record[position]]
        position += 1 + record[position]
        if text.startswith(_PREFIX):
            try:
                address = Address.parse(text[len(_PREFIX) :].decode("ascii"))
            except (WireError, UnicodeDecodeError):
                continue
            if address.peer is not None and address.dialable:
                found.append(address)
    return found


def multicast_hosts(listening: Iterable[Address]) -> list[str]:
    """IPv4 addresses of the interfaces to announce on: those listened on, all but loopback for a wildcard."""
    hosts: list[str] = []
    for address in listening:
        if address.kind != "ip4":
            continue
        if address.wildcard:
            every = [host for kind, host in interface_hosts() if kind == "ip4"]
            hosts += [host for host in every if not host.startswith("127.")] or every
        else:
            hosts.append(address.host)
    return list(dict.fromkeys(hosts))


class _Listener(ServiceListener):
    """Runs in zeroconf's thread."""

    def __init__(self, own: str, hand_over: Callable[[list[Address]], None]) -> None:
        self._own = own
        self._hand_over = hand_over

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        if name == self._own:
            return
        info = ServiceInfo(type_, name)
        if info.load_from_cache(zc) or info.text or info.request(zc, 2000):
            addresses = decode_txt(info.text or b"")
            if addresses:
                self._hand_over(addresses)

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Nothing: who is gone is noticed by the connection, or by dials that fail."""


class _Ear(RecordUpdateListener):
    """Counts what is heard at all. Runs in zeroconf's thread."""

    def __init__(self, own: str, figures: MdnsFigures) -> None:
        self._own = own
        self._figures = figures

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        if any(update.new.name == self._own for update in records):
            self._figures.own_heard += 1
        else:
            self._figures.others_heard += 1
        self._figures.last_heard = time.time()


async def discover(
    listening: list[Address],
    announced: Callable[[], list[Address]],
    found: Found,
    figures: MdnsFigures | None = None,
) -> None:
    """Announce `announced()` and report others to `found` until cancelled; survives interfaces coming and going."""
    figures = figures or MdnsFigures()
    while True:
        hosts = multicast_hosts(listening)
        figures.interfaces = tuple(hosts)
        if hosts:
            try:
                await _on_interfaces(hosts, listening, announced, found, figures)
            except OSError as error:
                figures.error = str(error)
                _log.warning("mDNS does not work on %s (%s); trying again in 30 s", ", ".join(hosts), error)
        await trio.sleep(_ANNOUNCE_EVERY if not hosts else 1.0)


async def _on_interfaces(
    hosts: list[str],
    listening: list[Address],
    announced: Callable[[], list[Address]],
    found: Found,
    figures: MdnsFigures,
) -> None:
    """One zeroconf instance, for as long as the interfaces stay the same."""
    token = trio.lowlevel.current_trio_token()

    def hand_over(addresses: list[Address]) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(found, addresses)

    name = f"{random.SystemRandom().getrandbits(128):032x}"
    addresses = announced()
    info = ServiceInfo(
        SERVICE,
        f"{name}.{SERVICE}",
        port=addresses[0].port if addresses else 0,
        properties=encode_txt(addresses),
        server=f"{name}.local.",
        host_ttl=_TTL,
        other_ttl=_TTL,
    )
    zeroconf = await trio.to_thread.run_sync(lambda: Zeroconf(interfaces=list(hosts), ip_version=IPVersion.V4Only))
    try:
        zeroconf.registry.async_add(info)
        zeroconf.add_service_listener(SERVICE, _Listener(info.name, hand_over))
        zeroconf.add_listener(_Ear(info.name, figures), None)
        started = trio.current_time()
        for moment in _announcements():
            await trio.sleep_until(started + moment)
            zeroconf.send(zeroconf.generate_service_broadcast(info, _TTL))
            figures.announced += 1
            figures.error = None
            if multicast_hosts(listening) != hosts:
                _log.info("the network interfaces changed; announcing on the new ones")
                return
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(zeroconf.close)


def _announcements() -> Iterable[float]:
    yield from _FIRST_ANNOUNCEMENTS
    moment = _FIRST_ANNOUNCEMENTS[-1]
    while True:
        moment += _ANNOUNCE_EVERY * random.uniform(0.8, 1.2)
        yield moment
