"""Whether others can reach this node: its port, its addresses, and multicast DNS."""

from __future__ import annotations

from collections.abc import Iterator

from learnae.cli.doctor.addresses import endpoint, kind
from learnae.cli.doctor.facts import Facts, Port
from learnae.cli.doctor.verdict import Verdict, fail, ok, skip, warn

LISTENING_TIME = 60.0
"""Seconds after the start after which mDNS must have heard something."""


def port(facts: Facts) -> Iterator[Verdict]:
    """The port that was wanted is the one that is listened on, or is free."""
    if facts.running is None:
        for one in facts.ports:
            yield _free(one, facts)
        return
    for row in facts.running.told.get("listening", ()):
        wanted, bound = endpoint(row["wanted"]), endpoint(row["bound"])
        if wanted is None or bound is None:
            continue
        if wanted[1] in (0, bound[1]):
            yield ok("port", f"listens on {row['bound']}")
            continue
        neighbour = any(place[1] == wanted[1] for place in map(endpoint, facts.neighbours) if place)
        holder = "another daemon of yours" if neighbour else "another program"
        yield (ok if neighbour else _taken)(
            "port", f"port {wanted[1]} is taken by {holder}, so that it listens on port {bound[1]} instead"
        )


def _taken(check: str, text: str) -> Verdict:
    return warn(
        check,
        f"{text}: addresses and port forwardings that others have of this node may be wrong",
        "end that program, or say --listen with a port that is free, and restart",
    )


def _free(one: Port, facts: Facts) -> Verdict:
    if one.error is None:
        return ok("port", f"{one.address} is free")
    place = endpoint(one.address)
    if one.taken and place and any(other[1] == place[1] for other in map(endpoint, facts.neighbours) if other):
        return ok("port", f"{one.address} is held by another daemon of yours; this one would take another port")
    if one.taken:
        return _taken("port", f"{one.address} is taken by {one.holder or 'another program'}")
    return fail("port", f"{one.address} cannot be listened on: {one.error}", "say --listen with an address of this PC")


def reachable(facts: Facts) -> Iterator[Verdict]:
    """The announced addresses can be dialled, from here and from elsewhere."""
    running = facts.running
    if running is None or not running.told:
        yield skip("reachable", "no daemon runs")
        return
    for one in facts.reach:
        if one.error is not None:
            yield fail(
                "reachable",
                f"{_short(one.address)} cannot be dialled even from this PC: {one.error}",
                "let learnaed through this PC's firewall, or restart it if its network has changed",
            )
    kinds = {kind(one.address) for one in facts.reach}
    if not kinds or any(one.error for one in facts.reach):
        return
    incoming = int(running.told.get("incoming") or 0)
    if kinds == {"loopback"}:
        yield warn(
            "reachable",
            "it listens on this PC alone: no other PC can reach it",
            "say --listen /ip4/0.0.0.0/tcp/4117, unless that is what you want",
        )
    elif incoming:
        yield ok("reachable", f"{incoming} connections have come in from other PCs")
    elif "public" in kinds:
        yield ok("reachable", "it has a public address and answers there; nobody has come from outside yet")
    else:
        addresses = ", ".join(_short(one.address) for one in facts.reach if kind(one.address) == "private")
        yield ok(
            "reachable",
            f"only private addresses ({addresses}): PCs of the same network reach it, others only if your router "
            "forwards a port to it, or if this node dials them",
        )


def _short(address: str) -> str:
    return address.partition("/p2p/")[0]


def mdns(facts: Facts) -> Iterator[Verdict]:
    """Multicast DNS goes out, comes back, and others are heard."""
    running = facts.running
    if running is None or not running.told:
        yield _interfaces(facts)
        return
    found = running.told.get("mdns")
    if found is None:
        yield skip("mdns", "switched off (mdns = false): only given, remembered and learned addresses are dialled")
    elif not found["interfaces"]:
        yield fail(
            "mdns",
            "there is no network interface with an IPv4 address on which to look for others",
            "connect this PC to a network, or name a peer with --peer",
        )
    elif found["error"]:
        yield fail(
            "mdns", f"it does not work: {found['error']}", "check the network connection, or name a peer with --peer"
        )
    elif not found["own_heard"] and found["announced"] > 1:
        yield fail(
            "mdns",
            f"{found['announced']} announcements went out, and not even the own ones came back: a firewall on this PC "
            "blocks multicast (UDP port 5353)",
            "allow mDNS in the firewall (Linux: ufw allow 5353/udp; Windows: make the network a private one), or name "
            "a peer with --peer",
        )
    elif not found["others_heard"] and float(running.status.get("uptime") or 0) > LISTENING_TIME:
        yield warn(
            "mdns",
            "the own announcements are heard, and nobody else's: nobody is there, or this network keeps its members "
            "apart (guest Wi-Fi, some VPNs)",
            "start a daemon on another PC of this network; if it does not appear, name it with --peer",
        )
    else:
        text = f"{found['others_heard']} answers heard of others on {', '.join(found['interfaces'])}"
        yield ok("mdns", text if found["others_heard"] else f"works on {', '.join(found['interfaces'])}")


def _interfaces(facts: Facts) -> Verdict:
    useful = [
        one
        for one in facts.interfaces
        if one.multicast is not False and any(kind(f"/ip4/{ip}/tcp/1") != "loopback" for ip in one.addresses)
    ]
    if not useful:
        return warn(
            "mdns",
            "no network interface of this PC can multicast: others on the network cannot be found by themselves",
            "connect to a network, or name a peer with --peer",
        )
    return ok("mdns", f"possible on {', '.join(one.name for one in useful)}")
