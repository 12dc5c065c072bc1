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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from learnae.club import Club, Secrets, private_name
from learnae.config import Config
from learnae.coordinator import Coordinator
from learnae.errors import ConfigError, StoreError
from learnae.home import PRIVATE_MARK, SUMMARY_FILE
from learnae.protocol import Evaluate, Setup
from learnae.tasks import LOOP
from learnae.trainer.door import TETHER
from learnaed import logs, passphrase, rotation
from learnaed.blockstore import MARGIN, BlockStore
from learnaed.driver import Driver
from learnaed.feed import Feed
from learnaed.identity import load_identity
from learnaed.ipfs import IpfsNode, IpfsPinning
from learnaed.library import Library
from learnaed.limits import Enforcer, Look, Sensors, Warden
from learnaed.network import Network, NetworkSettings
from learnaed.node import Messages, Node
from learnaed.profile import open_profile
from learnaed.service import Service
from learnaed.snapshots import Archive, Catalogue, Finder, Importer, Keeper, Shelf
from learnaed.snapshots.start import fetch_initial, start_from
from learnaed.status import create_token, serve
from learnaed.status.files import write_private
from learnaed.store import DamagedStore, Store, open_store, set_aside
from learnaed.trainer.attached import Attached, alive
from learnaed.trainer.supervisor import Trainer
from learnaed.watchdog import Watchdog

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_FAREWELL_SECONDS = 0.5
_FINAL_REPORT_SECONDS = 30.0
_REMEMBER_EVERY = 30.0
_TETHER_SECONDS = 1.0
_STOP_SECONDS = 5.0
"""Asked to stop, the daemon has ended after so long, whatever hangs."""
_DATABASE = "ledger.sqlite"
_MOST_LIVES = 3

log = logs.get("app")


def run(config: Config, secrets: Secrets | None = None) -> int:
    """Run the daemon until it has finished or is asked to stop; the process' exit code. `secrets`: of a private swarm.

    Raises:
        LearnaeError: it cannot start, or go on; the message says why.
    """
    if secrets is not None and config.ipfs not in ("auto", "off"):
        raise ConfigError(
            f"--ipfs names the node {config.ipfs}, and the swarm is private: what is pinned on an IPFS node can be had "
            "by anybody who knows its CID. Leave --ipfs out; `learnae export --car` writes a file that you can pass on",
            code="private-ipfs",
        )
    with open_profile(config.home, config.profile) as profile, logs.to_file(profile, config.log_format):
        if config.profile is None and profile.name != "default":
            log.info("another learnaed holds the default profile", profile=profile.name)
        _keep_private(profile, config, secrets)
        messages = Messages(Feed())
        for _ in range(_MOST_LIVES):
            try:
                return _live(config, secrets, profile, messages)
            except* DamagedStore as group:
                aside = set_aside(_damaged(group))
                text = f"{logs.explain(group)}. It was moved to {aside.name}, and the daemon starts again without it"
                messages.add("error", f"[{DamagedStore.code}] {text}")
        raise StoreError(
            f"databases in {profile} are damaged as soon as they are written: "
            "have the disk checked, or give another --home",
            code="disk-failing",
        )


def _damaged(group: BaseExceptionGroup[DamagedStore]) -> Path:
    """The database that is to blame."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, DamagedStore)
    return error.path


def _live(config: Config, secrets: Secrets | None, profile: Path, messages: Messages) -> int:
    watchdog = Watchdog()
    try:
        return trio.run(_run, config, secrets, profile, messages, watchdog)
    finally:
        watchdog.disarm()


async def _run(config: Config, secrets: Secrets | None, profile: Path, messages: Messages, watchdog: Watchdog) -> int:
    identity = load_identity(profile / "identity.key")
    topic = config.topic if secrets is None else private_name(config.topic)
    club = None if secrets is None else await _club(config.topic, secrets)
    with (
        _opened(profile, identity.author, messages) as store,
        closing(_blocks(profile, config.snapshot_cap)) as blocks,
    ):
        shelf = Shelf(blocks)
        coordinator = Coordinator(identity.author, identity.sign, topic, paused=config.paused)
        network = Network(
            identity.seed,
            NetworkSettings(
                listen=config.listen, peers=config.peer, allow=config.allow, deny=config.deny, mdns=config.mdns
            ),
            on_peer=lambda peer, connected: driver.connection(peer, connected),
            remembered=store.remembered(),
            club=club,
            notify=messages.add,
        )
        archive = Archive(shelf)
        await _recover(archive, blocks, messages)
        pinning = _pinning(config, profile, archive, network, messages)
        ipfs = partial(_node_of, pinning)
        finder = Finder(shelf, network, ipfs, store.block)
        keeper = Keeper(shelf, network, ipfs, messages.add)
        catalogue = Catalogue(archive, finder, Importer(blocks, archive), coordinator, pinning, keeper)
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
        setup = _setup(config, topic, profile, identity.author, blocks)
        tether = os.environ.get(TETHER)
        trainer = driver.trainer = _trainer(setup, profile, driver, messages, tether)
        warden = _warden(config, profile, blocks, network, trainer, driver, messages)
        driver.out_of_memory = warden.out_of_memory
        library = Library(store, shelf)
        Service(coordinator, store, library).register(network)
        network.serve_blocks(library)
        node = Node(config, profile, coordinator, driver, network, store, shelf, trainer, catalogue, messages, warden)

        async with trio.open_nursery() as nursery:
            await nursery.start(_watch_signals, node, driver)
            nursery.start_soon(_watch_stop, node, watchdog)
            if tether is not None:
                nursery.start_soon(_watch_tether, tether, node, driver)
            # The status endpoint comes early, so that a start that hangs can be looked into.
            token = create_token(profile)
            await nursery.start(_serve, node, config, token, profile)
            await nursery.start(network.run)
            log.info("ready", peer=identity.peer_id, topic=config.topic, listen=" ".join(network.addresses))
            if secrets is not None and config.secret_file is not None:
                nursery.start_soon(_follow_secrets, config, secrets, network, messages)
            if pinning is not None:
                await catalogue.hand_over()  # else nothing is looked for before the next cut
                nursery.start_soon(pinning.run)
            if config.initial_cut is not None or config.start is not None:
                async with trio.open_nursery() as starting:
                    starting.start_soon(_cancel_when, driver.left, starting.cancel_scope)
                    if config.initial_cut is not None:
                        await fetch_initial(config.initial_cut, finder, archive)
                    if config.start is not None:
                        await start_from(config.start, finder, archive, store, driver)
                    starting.cancel_scope.cancel()
            await trio.to_thread.run_sync(shelf.begin_writing)
            nursery.start_soon(trainer.run)
            nursery.start_soon(driver.run)
            nursery.start_soon(keeper.run)
            nursery.start_soon(warden.run)
            nursery.start_soon(_remember_peers, network, store)
            nursery.start_soon(node.watch)

            await driver.left.wait()
            await _shut_down(node, driver, trainer, network, store, profile, watchdog)
            nursery.cancel_scope.cancel()
    log.info("bye")
    return 0


async def _recover(archive: Archive, blocks: BlockStore, messages: Messages) -> None:
    if not blocks.statistics().complete:
        found = await trio.to_thread.run_sync(archive.recover)
        messages.add(
            "warning",
            f"the list of pinned snapshots was lost. All {found} cuts that are still whole are kept as pinned now: see "
            "`learnae snapshots`, and `learnae unpin` those that you do not need",
        )


def _pinning(
    config: Config, profile: Path, archive: Archive, network: Network, messages: Messages
) -> IpfsPinning | None:
    if network.private and config.ipfs != "off":
        messages.add("info", "IPFS is off, because the swarm is private: snapshots go to its members alone")
    if network.private or config.ipfs == "off":
        return None
    address = config.ipfs if config.ipfs != "auto" else None
    return IpfsPinning(archive, profile / "ipfs.json", messages.add, address, lambda: network.addresses)


def _node_of(pinning: IpfsPinning | None) -> IpfsNode | None:
    return pinning.node if pinning is not None else None


def _warden(
    config: Config,
    profile: Path,
    blocks: BlockStore,
    network: Network,
    trainer: Trainer,
    driver: Driver,
    messages: Messages,
) -> Warden:
    enforcer = Enforcer(network, trainer, blocks, config.snapshot_cap, config.torch_threads)
    sensors = Sensors(profile, blocks.blocks.directory, lambda: blocks.statistics().bytes)

    async def look(idle_wanted: bool) -> Look:
        pid = trainer.statistics().pid
        return await trio.to_thread.run_sync(partial(sensors.look, pid, idle_wanted=idle_wanted))

    return Warden(
        config.limits,
        look=look,
        post=driver.post,
        notify=messages.add,
        enforcer=enforcer,
        paused=config.paused,
    )


def _keep_private(profile: Path, config: Config, secrets: Secrets | None) -> None:
    """A profile that was in a private swarm has its updates and snapshots: started without the secret, by mistake
    for instance, it would serve them to everybody."""
    mark = profile / PRIVATE_MARK
    if secrets is not None:
        write_private(mark, f"{config.topic}\n")
    elif mark.exists():
        raise ConfigError(
            f"the profile {profile.name!r} holds what a private swarm has learned, and no secret was given, so it "
            "would be served to everybody. Give the secret with --secret or --secret-file, or use another --profile",
            code="secret-missing",
        )


async def _club(topic: str, secrets: Secrets) -> Club:
    """In a thread: it takes a quarter of a second for each, on purpose."""
    return await trio.to_thread.run_sync(Club.derive, topic, tuple(secrets))


async def _follow_secrets(config: Config, secrets: Secrets, network: Network, messages: Messages) -> None:
    path = config.secret_file
    assert path is not None
    if passphrase.exposed(path):
        messages.add("warning", f"other users of this PC can read the secret in {path}: make it yours with chmod 600")

    async def changed(found: Secrets) -> None:
        network.rekey(await _club(config.topic, found))
        messages.add("info", f"the secrets were changed: {len(found)} open, the first of them seals")

    await rotation.follow(path, secrets, changed, messages.add)


def _trainer(setup: Setup, profile: Path, driver: Driver, messages: Messages, tether: str | None) -> Trainer:
    if setup.task != LOOP:
        return Trainer(setup, hear=driver.hear_trainer, lost=driver.lost_trainer)
    return Attached(
        setup,
        profile,
        hear=driver.hear_trainer,
        lost=lambda text: driver.lost_trainer(text=text),
        notify=messages.add,
        tether=tether,
    )


def _setup(config: Config, topic: str, profile: Path, author: bytes, blocks: BlockStore) -> Setup:
    return Setup(
        author=author,
        topic=topic,
        task=config.task,
        data=str(config.data) if config.data else None,
        shard=config.shard,
        skew=config.skew,
        seed=config.seed,
        threads=config.torch_threads,
        directory=str(profile / "trainer"),
        blocks=str(blocks.blocks.directory),
        gpu=config.limits.gpu,
        init=config.init,
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


async def _watch_tether(tether: str, node: Node, driver: Driver) -> None:
    """End with the script that started this daemon for itself, however that ends."""
    pid = tether.partition("-")[0]
    while pid.isdecimal() and alive(int(pid)):  # noqa: ASYNC110 - the end of a process that is no child has no event
        await trio.sleep(_TETHER_SECONDS)
    log.info("the script that this daemon was started for has ended")
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
