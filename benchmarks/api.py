"""Does watching a daemon cost the training anything? `python -m benchmarks.api`.

Two real daemons on loopback train and merge at full speed, with rounds of half a second. A client asks one of them for
its status and peers, again and again, then fifty clients listen to its event stream. CPU time is that of the daemon
process, as the system counts it; what the clients cost is their own process' affair.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from benchmarks.report import Report, arguments
from netsim import processes
from netsim.daemons import Node, Swarm

CLIENTS = 50
TASK = f"{Path(__file__).with_name('seeded.py').resolve()}:Hasty"
FLAGS = ("--topic", "benchmark", "--task", TASK, "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0")


def place(node: Node) -> tuple[str, int]:
    """Where the node's endpoint listens."""
    url = urlsplit(json.loads((node.profile / "status.json").read_text())["url"])
    return url.hostname or "127.0.0.1", url.port or 80


def answer_times(where: tuple[str, int], path: str, count: int) -> list[float]:
    """Milliseconds from a request to the last byte of its answer, each over a connection of its own."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        connection = http.client.HTTPConnection(*where, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        times.append(1000 * (time.perf_counter() - began))
        assert answer.status == 200 and body
        time.sleep(0.05)
    return times


def listen(where: tuple[str, int], ready: Event, stop: Event, heard: Any) -> None:
    """Hold fifty event streams open, in a process of its own, and count the events."""
    connections = []
    for _ in range(CLIENTS):
        connection = socket.create_connection(where)
        connection.sendall(b"GET /api/events HTTP/1.0\r\nHost: %s:%d\r\n\r\n" % (where[0].encode(), where[1]))
        connection.settimeout(0.0)
        connections.append(connection)
    ready.set()
    while not stop.wait(0.2):
        for connection in connections:
            try:
                heard.value += connection.recv(1 << 20).count(b"\nevent: ")
            except BlockingIOError:
                continue


def course(node: Node, seconds: float) -> dict[str, float]:
    """What the node does in so many seconds, left alone but for two looks at it."""
    before, cpu, began = node.status(), processes.cpu_seconds(node.pid), time.monotonic()
    time.sleep(seconds)
    used, elapsed = processes.cpu_seconds(node.pid) - cpu, time.monotonic() - began
    after = node.status()
    return {
        "steps/s": (after["trainer"]["steps"] - before["trainer"]["steps"]) / elapsed,
        "updates/s": (after["ledger"]["updates"] - before["ledger"]["updates"]) / elapsed,
        "events/s": (after["feed"]["events"] - before["feed"]["events"]) / elapsed,
        "daemon CPU %": 100 * used / elapsed,
    }


def watched(node: Node, seconds: float) -> dict[str, float]:
    """The same with fifty listeners; `heard/s` is per listener."""
    context = multiprocessing.get_context("spawn")
    ready, stop, heard = context.Event(), context.Event(), context.Value("q", 0)
    process = context.Process(target=listen, args=(place(node), ready, stop, heard))
    process.start()
    try:
        ready.wait(30)
        time.sleep(1)
        before = heard.value
        row = course(node, seconds)
        return row | {"heard/s": (heard.value - before) / CLIENTS / seconds}
    finally:
        stop.set()
        process.join(10)


def asked(node: Node, seconds: float) -> dict[str, float]:
    """The same with a client that asks for the status twenty times a second."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=answer_times, args=(place(node), "/api/status", int(seconds * 20)))
    process.start()
    try:
        return course(node, seconds) | {"heard/s": 0.0}
    finally:
        process.terminate()
        process.join(10)


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    options = arguments(__doc__ or "", given)
    report = Report("api", options)
    count, seconds, turns = (40, 8.0, 2) if options.quick else (200, 20.0, 4)
    with tempfile.TemporaryDirectory() as directory, Swarm(Path(directory)) as swarm:
        first = swarm.start(*FLAGS, "--shard", "1/2")
        swarm.wait_ready(60)
        swarm.start(*FLAGS, "--shard", "2/2", "--peer", first.status()["listen"][0])
        swarm.wait_together(60)
        swarm.wait_rounds(3, 60)

        paths = ("/api/status", "/api/peers", "/api/updates", "/api/history", "/metrics")
        times = {path: answer_times(place(first), path, count) for path in paths}
        rows = [
            {"path": path, "median ms": median(found), "95 % ms": sorted(found)[int(0.95 * count)], "worst": max(found)}
            for path, found in times.items()
        ]
        report.table(f"answer times while training and merging, {count} requests each", rows)

        listening = f"{CLIENTS} listeners"
        found: dict[str, list[dict[str, float]]] = {name: [] for name in ("nobody", listening, "20 requests/s")}
        for _ in range(turns):  # by turns, so that what else the machine does hits all of them alike
            found["nobody"].append(course(first, seconds) | {"heard/s": 0.0})
            found[listening].append(watched(first, seconds))
            found["20 requests/s"].append(asked(first, seconds))
        middle = {name: {key: median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()}
        report.table(
            f"the watched node, {turns} times {seconds:.0f} s each, medians",
            [{"with": name, **row} for name, row in middle.items()],
        )
    alone, listened = middle["nobody"], middle[listening]
    for path in paths[:2]:
        report.target(f"median answer time of {path}", median(times[path]), "at most", 50.0, "ms")
    cost = listened["daemon CPU %"] - alone["daemon CPU %"]
    report.target(f"event stream to {CLIENTS} clients, of a core", cost, "at most", 5.0, "%")
    speed = 100 * listened["steps/s"] / alone["steps/s"]
    report.target(f"training speed with {CLIENTS} listeners, of that without", speed, "at least", 95.0, "%")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
