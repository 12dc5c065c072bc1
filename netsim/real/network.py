"""A lab whose cables are slow: rates by the kernel's token buckets, delays by netem or in user space; used by `course`.

Rates are tbf on both ends of a node's cable: on its `eth0` what it sends, on the port of the bridge what it receives.
Delays, jitter and loss are netem on both ends where the kernel has it, else `cable`, which then is the cable.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from netsim.errors import RealError
from netsim.namespaces import MTU, Lab, LabError, inside, ip_batch, unavailable
from netsim.real import cable
from netsim.scenario import Link

TUN = Path("/dev/net/tun")
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
BURST = 0.02  # seconds' worth of a rate that may go out at once
QUEUE = 0.5  # seconds that a frame may wait for its turn; what would wait longer is lost, as in a router
LEAST = 10 * MTU  # bytes of a bucket or a queue, at least

Delays = Literal["netem", "cable", "none"]


@dataclass(frozen=True, slots=True)
class Kernel:
    """What this machine can do to frames."""

    tbf: bool
    netem: bool
    tap: bool

    @property
    def delays(self) -> Delays:
        """By what frames can be held back."""
        return "netem" if self.netem else "cable" if self.tap else "none"


def kernel() -> Kernel:
    """Try what this machine can do, in a namespace that is gone afterwards.

    Raises:
        RealError: there are no namespaces, or no `tc`; says how to get them.
    """
    if reason := unavailable():
        raise RealError(f"real daemons run in network namespaces, but {reason}")
    if shutil.which("tc") is None:
        raise RealError("links are made slow by `tc`, which is missing: install iproute2 (`apt-get install iproute2`)")
    name = f"learnae-{os.getpid()}-0-tc"

    def offered(qdisc: str) -> bool:
        argv = ["tc", "-n", name, "qdisc", "replace", "dev", "lo", "root", *qdisc.split()]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    try:
        subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
        ip_batch(name, ["link set lo up"])
        return Kernel(
            offered(f"tbf rate 1mbit burst {LEAST} limit {LEAST}"), offered("netem delay 1ms"), _has_tap(name)
        )
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def check(links: Sequence[Link], offers: Kernel) -> None:
    """Raises RealError if these links cannot be made here, and says what is missing."""
    if not offers.tbf:
        raise RealError(
            "the kernel has no token bucket for the nodes' rates: load the module sch_tbf (`modprobe sch_tbf`), or use "
            "a kernel that was built with CONFIG_NET_SCH_TBF"
        )
    if offers.delays == "none" and any(slow(link) for link in links):
        raise RealError(
            "the kernel can neither delay frames (module sch_netem, CONFIG_NET_SCH_NETEM) nor hand them to a program "
            f"that does ({TUN}, module tun): load one of them"
        )


def slow(link: Link) -> bool:
    """Whether a link does more to frames than limit their rate."""
    return bool(link.latency or link.jitter or link.loss)


def qdiscs(device: str, rate: float, link: Link, delays: Delays) -> list[str]:
    """Lines of `tc -batch` for one end of a cable.

    Args:
        device: its interface.
        rate: bytes a second that may go out there.
        link: for delay, jitter and loss.
        delays: what makes them; only netem has lines of its own.
    """
    root, lines = "root", []
    if delays == "netem" and slow(link):
        # netem knows no exponential jitter: the normal one has the same mean, and is cut off at zero.
        jitter = f" {link.jitter * 1000:g}ms distribution normal" if link.jitter else ""
        loss = f" loss {link.loss * 100:g}%" if link.loss else ""
        delay = f"delay {(link.latency + link.jitter) * 1000:g}ms{jitter}"
        lines.append(f"qdisc add dev {device} root handle 1: netem limit 100000 {delay}{loss}")
        root = "parent 1:1 handle 2:"
    burst, limit = max(rate * BURST, LEAST), max(rate * QUEUE, LEAST)
    return [*lines, f"qdisc add dev {device} {root} tbf rate {rate * 8:.0f}bit burst {burst:.0f} limit {limit:.0f}"]


class SlowLab(Lab):
    """A lab with one node per link, whose cables are as slow as the links say.

    Args:
        links: of each node. Their ``nat`` is not looked at.
        offers: what the kernel can do, see `kernel`.
        seed: of jitter and loss, where they are made in user space.
    """

    def __init__(self, links: Sequence[Link], offers: Kernel, seed: int = 0) -> None:
        check(links, offers)
        self._links = links
        self._offers = offers
        self._seed = seed
        self._ends: list[dict[str, float]] = []  # of the cables in user space
        self._cable: subprocess.Popen[bytes] | None = None
        super().__init__(len(links))

    def _build(self) -> None:
        super()._build()
        for node, link in zip(self.nodes, self._links, strict=True):
            self._shape(self._name(node), qdiscs("eth0", link.up, link, self._offers.delays))
            self._shape(self._switch, qdiscs(self._port(node), link.down, link, self._offers.delays))
        if self._ends:
            self._start_cable()

    def _connect(self, node: str) -> None:
        link = self._links[self.nodes.index(node)]
        if self._offers.delays != "cable" or not slow(link):
            super()._connect(node)
            return
        ends = {"node": _tap(self._name(node), "eth0"), "port": _tap(self._switch, self._port(node))}
        self._ends.append({**ends, "latency": link.latency, "jitter": link.jitter, "loss": link.loss})

    def _shape(self, namespace: str, lines: list[str]) -> None:
        argv = ["tc", "-n", namespace, "-batch", "-"]
        done = subprocess.run(argv, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"`{' '.join(argv)}` failed at {lines}: {done.stderr.strip() or done.returncode}")

    def _start_cable(self) -> None:
        """In the switch's namespace: whoever removes that, now or after a crash, ends the process."""
        argv = [sys.executable, "-I", cable.__file__]
        descriptors = [int(end[side]) for end in self._ends for side in ("node", "port")]
        self._cable = inside(
            self._switch,
            lambda: subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=descriptors, start_new_session=True),
        )
        for descriptor in descriptors:
            os.close(descriptor)
        assert self._cable.stdin is not None
        self._cable.stdin.write(json.dumps({"cables": self._ends, "seed": self._seed}).encode() + b"\n")
        self._cable.stdin.flush()

    def close(self) -> None:
        """Kill what runs inside and remove everything; harmless when repeated."""
        super().close()
        if self._cable is not None:
            assert self._cable.stdin is not None
            self._cable.stdin.close()
            self._cable.wait(5)
            self._cable = None


def _tap(namespace: str, name: str) -> int:
    """A new interface of that namespace whose frames a program passes on: its descriptor."""

    def make() -> int:
        descriptor = os.open(TUN, os.O_RDWR)
        try:
            fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    try:
        descriptor = inside(namespace, make)
        ip_batch(namespace, [f"link set {name} mtu {MTU} gso_max_segs 1"])
    except OSError as error:
        raise LabError(f"no TAP interface {name} can be made in {namespace}: {error}") from error
    return descriptor


def _has_tap(namespace: str) -> bool:
    try:
        os.close(_tap(namespace, "probe"))
    except LabError:
        return False
    return True
