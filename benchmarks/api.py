"""Does watching a daemon cost the training anything? `python -m benchmarks.api`.

Two real daemons on loopback train and merge at full speed, with rounds of half a second. A client asks one of them for
its status and peers, again and again, then fifty clients listen to its event stream. CPU time is that of the daemon
process, as the system counts it; what the clients cost is their own process' affair.

Then it is flooded: by a thousand connections at once, each with a request, opened anew as soon as they end; by bodies
of 10 MB, sixteen at a time; by two hundred readers of the event stream who never read. The flood comes from a process
that gives way to everything else (nice 19), so that what is seen is what the daemon does about it. Between the floods,
by turns, the same node is left alone for as long: what else the machine does hits both alike.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import os
import resource
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

import trio

from benchmarks.report import Report, arguments
from netsim import processes
from netsim.daemons import Node, Swarm, Unreachable

CLIENTS = 50
CONNECTIONS, BODIES, STALLED = 1000, 16, 200
FLOODS = {
    f"{CONNECTIONS} connections": "connections",
    "10 MB bodies": "bodies",
    f"{STALLED} stalled readers": "stalled",
}
BODY = 10 * 2**20
TASK = f"{Path(__file__).with_name('seeded.py').resolve()}:Hasty"
START = ("--paused", "--torch-threads", "1", "--ipfs", "off", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0")
FLAGS = ("--topic", "benchmark", "--task", TASK, *START)


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


async def flood(kind: str, where: tuple[str, int]) -> None:
    """Do this to the endpoint until cancelled."""
    host = b"Host: %s:%d\r\n" % (where[0].encode(), where[1])
    requests = {
        "connections": b"GET /api/status HTTP/1.1\r\n" + host + b"\r\n",
        "bodies": b"POST /api/pause HTTP/1.1\r\n" + host + b"Content-Length: %d\r\n\r\n" % BODY,
        "stalled": b"GET /api/events HTTP/1.1\r\n" + host + b"\r\n",
    }

    async def again() -> None:
        while True:
            with contextlib.suppress(OSError, trio.BrokenResourceError):
                async with await trio.open_tcp_stream(*where) as connection:
                    if kind == "stalled":
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    await connection.send_all(requests[kind])
                    if kind == "bodies":
                        for _ in range(BODY // 2**16):
                            await connection.send_all(bytes(2**16))
                    if kind == "stalled":
                        await trio.sleep(20)
                    async for _ in connection:
                        pass
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        for _ in range({"connections": CONNECTIONS, "bodies": BODIES, "stalled": STALLED}[kind]):
            nursery.start_soon(again)


def attack(kind: str, where: tuple[str, int], ready: Event, go: Event) -> None:
    """The same in a process of its own, which gives way to all others."""
    os.nice(19)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most), most))
    ready.set()
    go.wait()
    trio.run(flood, kind, where)


def steps_of(node: Node) -> tuple[float, dict[str, Any]]:
    """When its status was had, and the status. Tries again while the daemon still has to do with a flood that ended."""
    deadline = time.monotonic() + 30
    while True:
        try:
            status = node.status()
            return time.monotonic(), status
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def under(node: Node, seconds: float, kind: str | None) -> dict[str, float]:
    """What the node does in so many seconds while this is done to it; None: nothing is.

    It is asked just before and just after: meanwhile it has no place for us.
    """
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    process = None
    if kind is not None:
        process = context.Process(target=attack, args=(kind, place(node), ready, go))
        process.start()
        ready.wait(30)
    try:
        began, before = steps_of(node)
        daemon, trainer = processes.cpu_seconds(node.pid), processes.cpu_seconds(before["trainer"]["pid"])
        go.set()
        time.sleep(seconds)
        memory = processes.resident(node.pid)
    finally:
        if process is not None:
            process.kill()
            process.join()
    ended, after = steps_of(node)
    daemon, trainer = processes.cpu_seconds(node.pid) - daemon, processes.cpu_seconds(after["trainer"]["pid"]) - trainer
    steps, elapsed = after["trainer"]["steps"] - before["trainer"]["steps"], ended - began
    refused = sum(after["api"][name] - before["api"][name] for name in ("refused", "turned_away"))
    return {
        "steps/s": steps / elapsed,
        "updates/s": (after["ledger"]["updates"] - before["ledger"]["updates"]) / elapsed,
        "steps/CPU s": steps / trainer,
        "daemon CPU %": 100 * daemon / elapsed,
        "refused/s": refused / elapsed,
        "daemon MB": memory / 1e6,
    }


def floods(node: Node, seconds: float, turns: int, report: Report) -> None:
    """Flood it in every way, by turns with none, and compare."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ("nothing", *FLOODS)}
    ratios: dict[str, list[float]] = {name: [] for name in FLOODS}
    for _ in range(turns):
        for name, kind in FLOODS.items():
            rows["nothing"].append(under(node, seconds, None))
            rows[name].append(under(node, seconds, kind))
            ratios[name].append(rows[name][-1]["steps/s"] / rows["nothing"][-1]["steps/s"])
    middle = {name: {key: median(row[key] for row in found) for key in found[0]} for name, found in rows.items()}
    report.table(
        f"the node under floods, {turns} times {seconds:.0f} s each, medians",
        [{"flood": name, **row} for name, row in middle.items()],
    )
    for name, found in ratios.items():
        report.target(f"training speed under {name}, of that just before", median(found), "at least", 0.9)


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    options = arguments(__doc__ or "", given)
    report = Report("api", options)
    count, seconds, turns = (40, 8.0, 4) if options.quick else (200, 20.0, 4)
    with tempfile.TemporaryDirectory() as directory, Swarm(Path(directory)) as swarm:
        first = swarm.start(*FLAGS, "--shard", "1/2")
        swarm.wait_ready(180)
        swarm.start(*FLAGS, "--shard", "2/2", "--peer", first.status()["listen"][0])
        swarm.wait_together(180)
        swarm.resume()
        swarm.wait_rounds(3, 180)

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
        floods(first, seconds, turns, report)
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
