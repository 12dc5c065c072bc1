"""A real IPFS daemon with the RPC API, for tests: js-ipfs 0.66.1 on loopback, with no other node to talk to.

It needs node >= 20 and npm. ``python -m tests.ipfs.js_daemon install`` fetches it once (minutes, 200 MB) into the
user's cache, or into the directory named by ``LEARNAE_JS_IPFS``. Tests skip where it is not installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import platformdirs

VERSION = "0.66.1"
HOW = "run `python -m tests.ipfs.js_daemon install`"
START_SECONDS = 60.0

_PACKAGE = {
    "private": True,
    "dependencies": {"ipfs": VERSION},
    # Its own ranges let in versions that it does not work with.
    "overrides": {"@multiformats/multiaddr": "11.6.1", "@multiformats/mafmt": "11.0.3"},
}
# What newer packages expect of node and version 20 lacks.
_POLYFILL = """\
if (!Promise.withResolvers) Promise.withResolvers = function () {
  let resolve, reject
  const promise = new this((yes, no) => { resolve = yes; reject = no })
  return { promise, resolve, reject }
}
"""


class JsDaemon(NamedTuple):
    """A daemon that runs."""

    api: str
    """Multiaddr of its RPC API."""
    repo: Path
    """What IPFS_PATH names."""
    process: subprocess.Popen[str]


def directory() -> Path:
    """Where js-ipfs is, or would be, installed."""
    named = os.environ.get("LEARNAE_JS_IPFS")
    return Path(named) if named else platformdirs.user_cache_path("learnae") / f"js-ipfs-{VERSION}"


def unavailable() -> str | None:
    """Why the daemon cannot be started here; None if it can."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not _entry().exists() or not (directory() / "polyfill.cjs").exists():
        return f"js-ipfs is not installed in {directory()}: {HOW}"
    return None


def install() -> None:
    """Fetch js-ipfs from the package registry."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise SystemExit("node (20 or newer) and npm are needed: install them with the system's package manager")
    place = directory()
    place.mkdir(parents=True, exist_ok=True)
    (place / "package.json").write_text(json.dumps(_PACKAGE))
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "--loglevel=error"], cwd=place, check=True)
    (place / "polyfill.cjs").write_text(_POLYFILL)


@contextlib.contextmanager
def running(repo: Path) -> Iterator[JsDaemon]:
    """A daemon on free ports of loopback, with an empty repository; stopped at the end."""
    environment = {**os.environ, "IPFS_PATH": str(repo)}
    if not (repo / "config").exists():
        subprocess.run(
            _command("init", "--empty-repo", "--profile=test"), env=environment, check=True, capture_output=True
        )
        _configure(repo / "config")
    with (repo / "daemon.log").open("w") as log:
        process = subprocess.Popen(
            _command("daemon", "--enable-preload=false"), env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
    reader = None
    try:
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_pump, args=(process, lines), daemon=True)
        reader.start()
        yield JsDaemon(_address(lines, repo), repo, process)
    finally:
        process.terminate()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if reader is not None:
            reader.join()


def _pump(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            lines.put(line)
    lines.put("")


def _address(lines: queue.Queue[str], repo: Path) -> str:
    """What the daemon says that it listens on, once it is ready."""
    deadline = time.monotonic() + START_SECONDS
    said: list[str] = []
    with contextlib.suppress(queue.Empty):
        while line := lines.get(timeout=max(deadline - time.monotonic(), 0.0)):
            said.append(line)
            if "Daemon is ready" in line:
                return (repo / "api").read_text().strip()
    raise RuntimeError(f"js-ipfs did not start: {''.join(said)}{(repo / 'daemon.log').read_text()}")


def _configure(path: Path) -> None:
    """Loopback only, on ports that the system chooses, and nobody to talk to."""
    config = json.loads(path.read_text())
    anywhere = "/ip4/127.0.0.1/tcp/0"
    config["Addresses"].update(Swarm=[anywhere], API=anywhere, Gateway=anywhere, RPC=anywhere, Delegates=[])
    config["Bootstrap"] = []
    config["Discovery"]["MDNS"]["Enabled"] = False
    config["Routing"] = {"Type": "none"}
    config["Swarm"]["DisableNatPortMap"] = True
    path.write_text(json.dumps(config))


def _command(*arguments: str) -> list[str]:
    return ["node", "--require", str(directory() / "polyfill.cjs"), str(_entry()), *arguments]


def _entry() -> Path:
    return directory() / "node_modules" / "ipfs" / "src" / "cli.js"


if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        raise SystemExit("usage: python -m tests.ipfs.js_daemon install")
    install()
