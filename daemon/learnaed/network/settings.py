"""What can be set about a node's network, and the counters it shows; used by the daemon's wiring and status."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from learnae.errors import ConfigError, WireError
from learnaed.network.addresses import Address


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How a node listens, whom it looks for, and what it lets strangers do.

    Attributes:
        listen: multiaddrs to listen on; a taken port is replaced by any free one.
        peers: multiaddrs with /p2p/..., dialled for as long as the node runs.
        allow: peer ids; if there are any, only these are connected to.
        deny: peer ids that are not connected to, whatever `allow` says.
        mdns: find and announce nodes on the local network. Off: only given, remembered and learned addresses.
        max_connections: connections in both directions together. More cost memory (about 0.3 MB each) and pings.
        messages_per_second: what one peer may send or forward on one topic, averaged; a burst of ten seconds' worth is
            legal. Lower holds off floods earlier, and drops what large swarms say honestly.
        max_message: largest pubsub message, bytes.
        ping_after: seconds of silence after which a peer is pinged.
        dead_after: seconds of silence after which a connection is closed. Lower notices a pulled cable earlier and
            drops peers on congested links.
    """

    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/4117",)
    peers: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    mdns: bool = True
    max_connections: int = 40
    messages_per_second: float = 50.0
    max_message: int = 64 * 1024
    ping_after: float = 8.0
    dead_after: float = 18.0

    def permits(self, peer: str) -> bool:
        """Whether a peer may be connected at all."""
        return peer not in self.deny and (not self.allow or peer in self.allow)

    def listen_addresses(self) -> list[Address]:
        """The parsed `listen`.

        Raises:
            ConfigError: an address that cannot be used.
        """
        if not self.listen:
            raise ConfigError(
                "no listen address was given: leave --listen out, or pass /ip4/0.0.0.0/tcp/4117", code="bad-address"
            )
        found = [_parse(text, "--listen") for text in self.listen]
        for address in found:
            if address.kind not in ("ip4", "ip6"):
                raise ConfigError(
                    f"--listen {address}: listening needs an IP address such as /ip4/0.0.0.0/tcp/4117",
                    code="bad-address",
                )
        return found

    def peer_addresses(self) -> list[Address]:
        """The parsed `peers`.

        Raises:
            ConfigError: an address that cannot be used.
        """
        found = [_parse(text, "--peer") for text in self.peers]
        for address in found:
            if address.peer is None:
                raise ConfigError(
                    f"--peer {address}: the address does not say which peer is there, so it cannot be told from an "
                    "impostor. Append /p2p/PEER-ID: the other node prints its full address when it starts, and "
                    "`learnae status` shows it there.",
                    code="bad-address",
                )
            if not self.permits(address.peer):
                raise ConfigError(
                    f"--peer {address} is to be dialled, but --deny names it, or --allow only others. "
                    "Say one or the other.",
                    code="peer-denied",
                )
            if not address.dialable:
                raise ConfigError(
                    f"--peer {address}: nobody can be dialled there; give the other node's own address",
                    code="bad-address",
                )
        return found


def _parse(text: str, option: str) -> Address:
    try:
        return Address.parse(text)
    except WireError as error:
        raise ConfigError(f"{option} {text}: {error}. {_REMEDIES[option]}", code="bad-address") from error


_REMEDIES = {
    "--listen": "A listen address reads /ip4/ADDRESS/tcp/PORT; /ip4/0.0.0.0/tcp/4117 is every network of this PC.",
    "--peer": "A peer address reads /ip4/ADDRESS/tcp/PORT/p2p/PEER_ID: copy it from where the other node runs, which "
    "prints it when it starts and in `learnae status`.",
}


@dataclass(slots=True)
class Counters:
    """Running counters, shared by the parts of one node's network.

    Bytes are those of the TCP connections, encryption included, IP headers not.
    """

    bytes_sent: int = 0
    bytes_received: int = 0
    messages_published: int = 0
    messages_received: int = 0
    requests_sent: int = 0
    requests_failed: int = 0
    requests_served: int = 0
    dials: int = 0
    dial_failures: int = 0
    incoming: int = 0
    """Connections that came in from other machines."""
    discovered: int = 0
    host_restarts: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over a peer's present connections, in bytes; `direction`: who dialled, "inbound" or "outbound"."""

    sent: int
    received: int
    direction: str


@dataclass(frozen=True, slots=True)
class NetworkStatistics:
    """Figures for the status endpoint."""

    peers: int
    connections: int
    known_peers: int
    counters: Counters
    """A copy: it stays as it was at that moment."""
