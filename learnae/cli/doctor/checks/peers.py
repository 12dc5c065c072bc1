"""Whom this node knows, why some cannot be reached or merged with, and whose clock is wrong."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from learnae.cli.doctor.facts import Facts
from learnae.cli.doctor.verdict import Verdict, fail, ok, skip, warn

MOST = 20
"""Peers of whom each has a line of its own."""
SKEW = 5.0
"""Seconds by which a clock may be off before the user is told: the swarm makes up for less, at no cost."""
SETTLING_IN = 30.0
"""Seconds after the start in which nothing can be said of peers."""

_CURES = {
    "peer-refused": "start learnaed there, or correct the port",
    "peer-timeout": "switch that PC on, and let port 4117 through its firewall",
    "wrong-peer-id": "copy its address anew from `learnae status` there: its identity has changed, or the PC has",
    "no-route": "connect both PCs to one network, or give an address that this one can reach",
    "name-unknown": "correct the name in --peer, or give the IP address",
    "not-learnae": "correct the port: another program has it there",
    "peer-closed": "look into the log there: it is full, of another version, or refuses this node",
    "wrong-secret": "use the same secret on both PCs: `learnae invite` there",
}
_OTHERWISE = "look into the log there"


def known(facts: Facts) -> Iterator[Verdict]:
    """This node knows of others, and is connected to some."""
    running = facts.running
    if running is None:
        yield skip("peers", "no daemon runs")
        return
    told, members = running.told, [peer for peer in running.peers if peer.get("connected") or peer.get("swarm_match")]
    dials, connected = told.get("dials", ()), told.get("connected", ())
    if connected or members:
        merging = sum(bool(peer.get("swarm_match")) for peer in running.peers)
        yield ok("peers", f"connected to {len(connected)}; {merging} train the same model")
    elif not dials:
        off = told.get("mdns") is None
        why = "mDNS is off and no peer was named" if off else "none was found on this network, and none was named"
        yield warn(
            "peers",
            f"nobody is known: {why}. It trains alone meanwhile",
            f"start learnaed on another PC with --topic {running.status.get('topic')}, or name one with --peer",
        )
    else:
        yield warn(
            "peers", f"{_people(dials)} known, none connected: it trains alone meanwhile", "see each of them below"
        )


def _people(dials: Any) -> str:
    count = len({row["peer"] for row in dials})
    return f"{count} peer is" if count == 1 else f"{count} peers are"


def unreachable(facts: Facts) -> Iterator[Verdict]:
    """One line for each known peer that cannot be reached, with the reason of the best address."""
    running = facts.running
    connected = set(running.told.get("connected", ())) if running else set()
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in running.told.get("dials", ()) if running else ():
        if row["peer"] not in connected:
            rows.setdefault(row["peer"], []).append(row)
    failing = {peer: tried for peer, some in rows.items() if (tried := [row for row in some if row["code"]])}
    for peer, tried in list(failing.items())[:MOST]:
        row = next((row for row in tried if row["source"] == "given"), tried[0])
        text = f"...{peer[-8:]} cannot be reached at {row['address']}: {row['why']} [{row['code']}]"
        if len(tried) > 1:
            text += f"; nor at {len(tried) - 1} other addresses"
        judge = fail if row["source"] == "given" else warn
        yield judge("peer", text, _CURES.get(row["code"], _OTHERWISE))
    if len(failing) > MOST:
        yield warn(
            "peer",
            f"{len(failing) - MOST} more cannot be reached",
            "see to those above first; `learnae peers` lists whom the node has heard of",
        )


def strangers(facts: Facts) -> Iterator[Verdict]:
    """Who is connected, but trains something else, speaks another version, or says nothing at all."""
    running = facts.running
    if running is None:
        return
    version = str(running.status.get("version") or "")
    for peer in running.peers[:500]:
        name, agent = f"...{str(peer.get('peer'))[-8:]}", str(peer.get("agent") or "")
        if peer.get("problem"):
            yield warn(
                "peer",
                f"{name} trains another model on this topic: {peer['problem']}",
                "start both with the same --task and the same learnae, or on different topics",
            )
        elif version and agent.startswith("learnae/") and agent != f"learnae/{version}":
            yield warn("peer", f"{name} runs {agent}, this node learnae/{version}", "install the same version on both")
        if peer.get("forked"):
            yield warn(
                "peer",
                f"{name} has signed two updates for one slot: a copied profile, or a cheater",
                "if it is yours, give each PC a profile of its own: never copy identity.key",
            )
    if float(running.status.get("uptime") or 0) > SETTLING_IN:
        for name in running.told.get("silent", ())[:MOST]:
            yield warn(
                "peer",
                f"...{name[-8:]} is connected, but says nothing on topic {running.status.get('topic')}",
                "use the same --topic, version and secret on both; if it came just now, look again in half a minute",
            )
    secret = (running.status.get("network") or {}).get("dropped", {}).get("wrong-secret")
    if secret:
        yield warn(
            "peer",
            f"{secret} times somebody came with another secret, or with none",
            "give those who belong here yours",
        )


def clocks(facts: Facts) -> Iterator[Verdict]:
    """The clocks of this PC and of the peers agree."""
    running = facts.running
    clock = running.told.get("clock") if running else None
    if not clock or not clock["peers"]:
        yield skip("clock", "there is no peer to compare with")
        return
    heard: dict[str, float] = clock["peers"]
    usual = statistics.median(heard.values())
    astray = sum(abs(ahead) > SKEW and (ahead > 0) == (usual > 0) for ahead in heard.values())
    ours = len(heard) > 1 and abs(usual) > SKEW and 2 * astray > len(heard)
    if ours:
        yield fail(
            "clock",
            f"this PC's clock is {_off(-usual)} against those of {astray} of {len(heard)} peers",
            f"let the system set it: {_synchronise(facts.system)}",
        )
    wrong = {peer: ahead for peer, ahead in heard.items() if abs(ahead - (usual if ours else 0.0)) > SKEW}
    for peer, ahead in sorted(wrong.items(), key=lambda item: -abs(item[1]))[:MOST]:
        yield warn(
            "clock",
            f"the clock of peer ...{peer[-8:]} is {_off(ahead)} against this PC's",
            f"let the system set it {'on that PC' if len(heard) > 2 else 'on both PCs'}: {_synchronise(facts.system)}",
        )
    if not ours and not wrong:
        yield ok("clock", f"agrees with {len(heard)} peers, {max(map(abs, heard.values())):.1f} s at most")


def _off(seconds: float) -> str:
    return f"{abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"


def _synchronise(system: str) -> str:
    match system:
        case "win32":
            return "Settings, Time, Set time automatically"
        case "darwin":
            return "System Settings, Date & Time, Set automatically"
        case _:
            return "sudo timedatectl set-ntp true"
