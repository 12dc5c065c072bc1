"""The daemon's wiring, readable top to bottom: one nursery holds everything that runs; called by `main`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from learnae.config import Config
from learnae.coordinator import Coordinator
from learnae.errors import StoreError
from learnae.home import SUMMARY_FILE
from learnae.protocol import Evaluate, Setup
from learnaed import logs
from learnaed.blockstore import MARGIN, BlockStore
from learnaed.driver import Driver
from learnaed.feed import Feed
from learnaed.identity import load_identity
from learnaed.ipfs import IpfsPinning
from learnaed.library import Library
from learnaed.network import Network, NetworkSettings
from learnaed.node import Messages, Node
from learnaed.profile import open_profile
from learnaed.service import Service
from learnaed.snapshots import Archive, Catalogue, Finder, Importer, Shelf
from learnaed.snapshots.start import start_from
from learnaed.status import create_token, serve
from learnaed.status.files import write_private
from learnaed.store import DamagedStore, Store, open_store, set_aside
from learnaed.trainer.supervisor import Trainer
from learnaed.watchdog import Watchdog

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_FAREWELL_SECONDS = 0.5
_FINAL_REPORT_SECONDS = 30.0
_REMEMBER_EVERY = 30.0
_STOP_SECONDS = 5.0
"""Asked to stop, the daemon has ended after so long, whatever hangs."""
_DATABASE = "ledger.sqlite"
_MOST_LIVES = 3

log = logs.get("app")


def run(config: Config) -> int:
    """Run the daemon until it has finished or is asked to stop; the process' exit code."""
    with open_profile(config.home, config.profile) as profile, logs.to_file(profile, config.log_format):
        if config.profile is None and profile.name != "default":
            log.info("another learnaed holds the default profile", profile=profile.name)
        messages = Messages(Feed())
        for _ in range(_MOST_LIVES):
            try:
                return _live(config, profile, messages)
            except* DamagedStore as group:
                aside = set_aside(profile / _DATABASE)
                text = f"{logs.explain(group)}. It was moved to {aside.name}, and the daemon starts again without it"
                messages.add("error", text)
        raise StoreError(
            f"databases in {profile} are damaged as soon as they are written: "
            "have the disk checked, or give another --home"
        )


def _live(config: Config, profile: Path, messages: Messages) -> int:
    watchdog = Watchdog()
    try:
        return trio.run(_run, config, profile, messages, watchdog)
    finally:
        watchdog.disarm()


async def _run(config: Config, profile: Path, messages: Messages, watchdog: Watchdog) -> int:
    identity = load_identity(profile / "identity.key")
    with (
        _opened(profile, identity.author, messages) as store,
        closing(_blocks(profile, config.snapshot_cap)) as blocks,
    ):
        shelf = Shelf(blocks)
        coordinator = Coordinator(identity.author, identity.sign, config.topic, paused=config.paused)
        network = Network(
            identity.seed,
            NetworkSettings(listen=config.listen, peers=config.peer, mdns=config.mdns),
            on_peer=lambda peer, connected: driver.connection(peer, connected),
            remembered=store.remembered(),
        )
        archive = Archive(shelf)
        pinning = _pinning(config, profile, archive, network, messages)
        finder = Finder(shelf, network, lambda: pinning.node if pinning is not None else None, store.block)
        catalogue = Catalogue(archive, finder, Importer(blocks, archive), coordinator, pinning)
        driver = Driver(
            coordinator,
            store,
            shelf,
            network,
            notify=messages.add,
            archive=archive,
            on_archive=catalogue.hand_over,
            last_round=config.rounds,
            feed=messages.feed,
        )
        trainer = driver.trainer = Trainer(
            _setup(config, profile, identity.author, blocks),
            hear=driver.hear_trainer,
            lost=driver.lost_trainer,
        )
        library = Library(store, shelf)
        Service(coordinator, store, library).register(network)
        network.serve_blocks(library)
        node = Node(config, profile, coordinator, driver, network, store, shelf, trainer, catalogue, messages)

        async with trio.open_nursery() as nursery:
            await nursery.start(_watch_signals, node, driver)
            nursery.start_soon(_watch_stop, node, watchdog)
            # The status endpoint comes early, so that a start that hangs can be looked into.
            token = create_token(profile)
            await nursery.start(_serve, node, config, token, profile)
            await nursery.start(network.run)
            log.info("ready", peer=identity.peer_id, topic=config.topic, listen=" ".join(network.addresses))
            if pinning is not None:
                nursery.start_soon(pinning.run)
            if config.start is not None:
                async with trio.open_nursery() as starting:
                    starting.start_soon(_cancel_when, driver.left, starting.cancel_scope)
                    await start_from(config.start, finder, archive, store, driver)
                    starting.cancel_scope.cancel()
            nursery.start_soon(trainer.run)
            nursery.start_soon(driver.run)
            nursery.start_soon(_remember_peers, network, store)
            nursery.start_soon(node.watch)

            await driver.left.wait()
            await _shut_down(node, driver, trainer, network, store, profile, watchdog)
            nursery.cancel_scope.cancel()
    log.info("bye")
    return 0


def _pinning(
    config: Config, profile: Path, archive: Archive, network: Network, messages: Messages
) -> IpfsPinning | None:
    if config.ipfs == "off":
        return None
    address = config.ipfs if config.ipfs != "auto" else None
    return IpfsPinning(archive, profile / "ipfs.json", messages.add, address, lambda: network.addresses)


def _setup(config: Config, profile: Path, author: bytes, blocks: BlockStore) -> Setup:
    return Setup(
        author=author,
        topic=config.topic,
        task=config.task,
        data=str(config.data) if config.data else None,
        shard=config.shard,
        skew=config.skew,
        seed=config.seed,
        threads=config.torch_threads,
        directory=str(profile / "trainer"),
        blocks=str(blocks.blocks.directory),
    )


@contextlib.contextmanager
def _opened(profile: Path, author: bytes, messages: Messages) -> Iterator[Store]:
    store = open_store(profile / _DATABASE, author, messages.add)
    try:
        yield store
    finally:
        store.close()


def _blocks(profile: Path, cap: int) -> BlockStore:
    # A small disk has its last room for other things than our snapshots, too, but not all of it.
    margin = min(MARGIN, shutil.disk_usage(profile).total // 20)
    return BlockStore(profile / "snapshots", cap=cap, margin=margin)


async def _serve(node: Node, config: Config, token: str, profile: Path, *, task_status: TaskStatus[str]) -> None:
    port, remote = config.status_port, config.status_listen
    await serve(node, "127.0.0.1", port, token, remote=remote, directory=profile, task_status=task_status)


async def _watch_signals(node: Node, driver: Driver, *, task_status: TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for number in received:
            if node.stop.is_set():
                # Asked twice: the user does not want to wait.
                log.warning("stopping at once")
                os._exit(1)
            log.info("stopping", signal=signal.Signals(number).name)
            node.stop.set()
            driver.left.set()


async def _watch_stop(node: Node, watchdog: Watchdog) -> None:
    await node.stop.wait()
    watchdog.arm(_STOP_SECONDS)


async def _remember_peers(network: Network, store: Store) -> None:
    while True:
        await trio.sleep(_REMEMBER_EVERY)
        await _remember(network, store)


async def _remember(network: Network, store: Store) -> None:
    # Only who is here now: the age of an address that no longer leads anywhere must show.
    known = {peer: found for peer, found in network.known_addresses().items() if peer in network.connected()}
    try:
        if known:
            await trio.to_thread.run_sync(store.remember, known, time.time())
    except StoreError as error:
        log.warning("peers are not remembered", why=error)


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _shut_down(
    node: Node,
    driver: Driver,
    trainer: Trainer,
    network: Network,
    store: Store,
    profile: Path,
    watchdog: Watchdog,
) -> None:
    """Say goodbye, let the trainer save its state, leave a summary. Asked to stop, all within five seconds."""
    with trio.move_on_after(_FAREWELL_SECONDS):
        await driver.say_farewell()
    if not node.stop.is_set() and trainer.statistics().state == "running":
        # Everything has settled: the last figures are of the weights that all members share.
        trainer.tell(Evaluate())
        with trio.move_on_after(_FINAL_REPORT_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when, node.stop, nursery.cancel_scope)
                await driver.final_report.wait()
                nursery.cancel_scope.cancel()
    watchdog.arm(_STOP_SECONDS)
    await trainer.stop()
    await _remember(network, store)
    try:
        write_private(profile / SUMMARY_FILE, json.dumps({"status": node.status()}, indent=1))
    except StoreError as error:
        log.warning("no summary was written", why=error)
