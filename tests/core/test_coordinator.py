"""The coordinator in a swarm of its own kind: lossy, churning, partitioned, lied to; all under a virtual clock."""

from __future__ import annotations

import pytest
from nacl.signing import SigningKey

from learnae import cbor, wire
from learnae.cid import raw_cid
from learnae.coordinator import Coordinator, Settings, actions, events
from learnae.coordinator.coordinator import _without_void
from learnae.ledger import Entry, Refusal
from learnae.vector import MAX_GAPS, VersionVector
from learnae.wire import Part, SyncReply, Update, seal
from tests.core.swarm import RULES, SLOT, START, Faults, Node, Swarm, Trainer, genesis


def test_a_quiet_swarm_agrees_within_a_round() -> None:
    swarm = Swarm()
    for number in range(1, 6):
        swarm.add(number)
    swarm.run(20.0)
    swarm.run(1.0, train=False)
    assert swarm.agree()
    assert all(node.rounds >= 15 for node in swarm.nodes.values())


def test_share_follows_the_number_of_working_nodes() -> None:
    swarm = Swarm()
    nodes = [swarm.add(number) for number in range(1, 5)]
    swarm.run(15.0)
    assert [node.share for node in nodes] == [0.25] * 4
    swarm.crash(nodes[0])
    swarm.run(swarm.settings.expiry + 2.0)
    assert [node.share for node in nodes[1:]] == [pytest.approx(1 / 3)] * 3


def test_who_falls_silent_keeps_its_share_for_an_interval() -> None:
    swarm = Swarm()
    nodes = [swarm.add(number) for number in range(1, 4)]
    swarm.run(17.0)
    swarm.crash(nodes[0])
    swarm.run(swarm.settings.expiry + 1.0)
    assert len(nodes[1].coordinator.members(swarm.now)) == 1
    assert [node.share for node in nodes[1:]] == [pytest.approx(1 / 3)] * 2
    swarm.run(RULES.cut_slots * SLOT)
    assert [node.share for node in nodes[1:]] == [0.5] * 2


def test_who_says_goodbye_leaves_its_share_at_once() -> None:
    swarm = Swarm()
    nodes = [swarm.add(number) for number in range(1, 4)]
    swarm.run(17.0)
    farewell = nodes[0].coordinator.farewell(nodes[0].now())
    nodes[0].perform(farewell)
    nodes[0].left = True
    swarm.run(2.0)
    assert [node.share for node in nodes[1:]] == [0.5] * 2


def test_nodes_are_members_before_there_is_any_update() -> None:
    swarm = Swarm()
    nodes = [swarm.add(number) for number in range(1, 4)]
    for node in nodes:
        node.handle(events.Pause())
    swarm.run(4.0)
    assert [len(node.coordinator.members(swarm.now)) for node in nodes] == [2, 2, 2]
    for node in nodes:
        node.handle(events.Resume())
    swarm.run(2.0)
    assert all(node.rounds for node in nodes)
    shares = {stored.entry.share for node in nodes for stored in node.disk.updates.values()}
    assert max(shares) < 1


def test_alone_it_waits_a_moment_and_then_trains() -> None:
    swarm = Swarm()
    node = swarm.add(1)
    swarm.run(swarm.settings.join_wait - 0.5)
    assert node.rounds == 0
    swarm.run(5.0)
    assert node.rounds >= 4
    assert node.coordinator.state(swarm.now) == "alone"
    assert any("training alone" in text for text in node.notices)


def test_a_joiner_trains_only_after_it_has_caught_up() -> None:
    swarm = Swarm()
    first = swarm.add(1)
    swarm.run(20.0)
    joiner = swarm.add(2)
    while not joiner.rounds and swarm.now < START + 60.0:
        swarm.run(0.25)
    assert joiner.rounds
    assert len({update for update in joiner.ids if update[0] == first.author}) >= first.rounds - 1
    swarm.run(5.0)
    assert joiner.coordinator.state(swarm.now) == "training"


def test_a_lost_update_is_repaired_within_a_few_seconds() -> None:
    swarm = Swarm(faults=Faults(loss=0.3))
    for number in range(1, 5):
        swarm.add(number)
    swarm.run(20.0)
    swarm.run(6.0, train=False)
    assert swarm.agree()


def test_no_sync_is_asked_for_when_nothing_is_lost() -> None:
    swarm = Swarm(large=0.0)
    nodes = [swarm.add(number) for number in range(1, 5)]
    swarm.run(8.0)
    before = swarm._count
    asked: list[actions.Sync] = []
    for node in nodes:
        perform = node.perform

        def watch(action: actions.Action, perform=perform) -> None:  # type: ignore[no-untyped-def]
            if isinstance(action, actions.Sync):
                asked.append(action)
            perform(action)

        node.perform = watch  # type: ignore[method-assign]
    swarm.run(20.0)
    assert swarm._count > before
    assert asked == []


def test_the_first_node_is_nothing_special() -> None:
    swarm = Swarm()
    nodes = [swarm.add(number) for number in range(1, 5)]
    swarm.run(10.0)
    rounds = [node.rounds for node in nodes]
    swarm.crash(nodes[0])
    swarm.run(10.0)
    assert all(node.rounds >= before + 9 for node, before in zip(nodes[1:], rounds[1:], strict=True))
    swarm.run(2.0, train=False)
    assert swarm.agree()


def test_a_restarted_node_goes_on_with_its_numbers() -> None:
    swarm = Swarm()
    swarm.add(1)
    node = swarm.add(2)
    swarm.run(10.0)
    last = max(node.disk.seqs)
    swarm.crash(node)
    swarm.run(3.0)
    again = swarm.add(2)
    swarm.run(10.0)
    swarm.run(3.0, train=False)
    seqs = sorted(again.disk.seqs)
    assert seqs == list(range(1, len(seqs) + 1))
    assert seqs[-1] > last
    assert swarm.agree()


def test_a_round_handed_in_again_after_a_crash_counts_once() -> None:
    swarm = Swarm()
    node = swarm.add(1)
    swarm.run(6.0)
    outbox = (b"the same round",)
    before = node.trainer.own_seq
    node.checkpoint()
    node.finish_round(outbox)
    # The trainer's saved state is older than that: more rounds followed.
    swarm.run(1.0, train=False)
    node.finish_round((b"a later round",))
    held = len(node.disk.updates)
    swarm.crash(node)
    again = swarm.add(1)
    accepted = again.coordinator.handle(events.RoundFinished(outbox, 5, 1.0, 1.0, 0.1, before, 0), again.now())
    assert [a.entry.seq for a in accepted if isinstance(a, actions.Accept) and a.entry] == [before + 1]
    assert not any(isinstance(action, (actions.Store, actions.PublishUpdate)) for action in accepted)
    assert len(again.disk.updates) == held


def test_a_trainer_that_lost_its_state_trains_on() -> None:
    swarm = Swarm()
    node = swarm.add(1)
    swarm.add(2)
    swarm.run(20.0)
    swarm.crash(node)
    swarm.disks[node.author].trainer = Trainer()
    again = swarm.add(1)
    swarm.run(20.0)
    assert len(again.disk.seqs) > 30
    swarm.run(20.0, train=False)
    assert swarm.agree()


def test_without_weights_nothing_is_trained_until_others_bring_them() -> None:
    swarm = Swarm()
    node, other = swarm.add(1), swarm.add(2)
    swarm.run(150.0)
    for leaving in (node, other):
        swarm.crash(leaving)
    swarm.disks[node.author].trainer = Trainer()
    swarm.disks[node.author].snapshots.clear()
    again = swarm.add(1)
    swarm.run(100.0)
    assert again.rounds == 0
    assert again.coordinator.state(swarm.now) == "joining"
    assert any("weights are lost" in text for text in again.notices)
    swarm.add(2)
    swarm.run(30.0)
    assert again.rounds > 0
    swarm.run(30.0, train=False)
    assert swarm.agree()


def test_a_sleeper_who_missed_everything_goes_over_to_a_cut() -> None:
    swarm = Swarm()
    sleeper = swarm.add(1)
    for number in (2, 3, 4):
        swarm.add(number)
    swarm.run(20.0)
    swarm.crash(sleeper)
    swarm.run(200.0)
    again = swarm.add(1)
    swarm.run(30.0)
    assert any("settled far more" in text for text in again.notices)
    assert again.coordinator.statistics(swarm.now).state == "training"
    swarm.run(30.0, train=False)
    assert swarm.agree()


def test_a_joiner_starts_from_a_cut_and_its_own_weights_never_count() -> None:
    swarm = Swarm()
    for number in (1, 2, 3):
        swarm.add(number)
    swarm.run(120.0)
    joiner = swarm.add(4)
    while not joiner.rounds and swarm.now < START + 160.0:
        swarm.run(0.25)
    assert joiner.loads == 1
    first = min(
        (s.entry for s in joiner.disk.updates.values() if s.entry.author == joiner.author), key=lambda e: e.slot
    )
    assert first.base is not None
    swarm.run(30.0, train=False)
    assert swarm.agree()


def test_two_geneses_become_one() -> None:
    swarm = Swarm()
    nodes = [swarm.add(number, genesis(start=number % 2)) for number in range(1, 6)]
    swarm.run(30.0)
    swarm.run(20.0, train=False)
    assert len({node.coordinator.ledger.swarm for node in nodes if node.coordinator.ledger}) == 1
    assert swarm.agree()
    # Whoever went over stays there after a restart.
    moved = next(node for node in nodes if node.disk.adopted)
    swarm.crash(moved)
    again = swarm.add(nodes.index(moved) + 1, moved.genesis)
    swarm.run(10.0, train=False)
    assert again.coordinator.ledger is not None
    assert again.coordinator.ledger.swarm != again.genesis.swarm_id("topic")
    assert swarm.agree()


def test_after_a_long_partition_one_side_goes_over_and_says_so() -> None:
    swarm = Swarm()
    nodes = [swarm.add(number) for number in range(1, 9)]
    swarm.run(20.0)
    for node in nodes[:4]:
        swarm.sides[node.author] = 1
    swarm.run(120.0)
    assert len(swarm.cuts()) == 2
    swarm.sides.clear()
    swarm.run(30.0, train=False)
    assert swarm.agree()
    told = [any("had parted" in text for text in node.notices) for node in nodes]
    assert told in ([True] * 4 + [False] * 4, [False] * 4 + [True] * 4)


def test_a_short_partition_loses_nothing() -> None:
    swarm = Swarm(large=0.0)
    nodes = [swarm.add(number) for number in range(1, 9)]
    swarm.run(20.0)
    for node in nodes[:4]:
        swarm.sides[node.author] = 1
    swarm.run(20.0)
    done = {node.author: max(node.disk.seqs) for node in nodes}
    swarm.sides.clear()
    swarm.run(6.0, train=False)
    assert swarm.agree()
    ledger = nodes[0].coordinator.ledger
    assert ledger is not None
    assert all(ledger.vector.last(author) == seq for author, seq in done.items())
    assert len(ledger) == sum(done.values())


def test_own_numbers_survive_pruning_and_a_lost_trainer() -> None:
    swarm = Swarm()
    node = swarm.add(1)
    swarm.run(200.0)
    assert node.coordinator.ledger is not None
    assert node.coordinator.ledger.floor is not None
    swarm.crash(node)
    swarm.disks[node.author].trainer = Trainer()
    swarm.add(1)
    swarm.run(20.0)  # The harness itself sees that no number is used twice.
    assert swarm.agree()


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 20.0])
def test_a_clock_that_is_set_stops_nothing(jump: float) -> None:
    swarm = Swarm()
    node = swarm.add(1)
    swarm.add(2)
    swarm.run(10.0)
    node.skew = jump
    swarm.run(10.0)
    assert len(node.coordinator.members(node.now())) == 1
    beats = [other.coordinator.peers.get(node.author) for other in swarm.nodes.values() if other is not node]
    assert all(swarm.now - peer.heard < 3.0 for peer in beats)


def test_a_leaving_node_does_not_come_back() -> None:
    swarm = Swarm()
    node, other = swarm.add(1), swarm.add(2)
    swarm.run(6.0)
    node.perform(node.coordinator.farewell(node.now()))
    swarm.run(4.0, train=False)
    assert not other.coordinator.members(swarm.now)


def test_own_updates_that_come_back_keep_their_numbers() -> None:
    swarm = Swarm()
    node, other = swarm.add(1), swarm.add(2)
    swarm.run(10.0)
    last = max(node.disk.seqs)
    swarm.run(2.0, train=False)
    swarm.crash(node)
    del swarm.disks[node.author]
    again = swarm.add(1)
    swarm.run(15.0)
    swarm.run(3.0, train=False)
    assert swarm.agree()
    assert max(again.disk.seqs) > last
    assert other.coordinator.refused[Refusal.CONFLICT] == 0


def test_two_models_on_one_topic_name_their_difference_and_go_on() -> None:
    swarm = Swarm()
    one, two = swarm.add(1), swarm.add(2)
    other = swarm.add(3, genesis(width=8))
    swarm.run(20.0)
    assert any("weight" in text and "(4, 4)" in text and "(8, 4)" in text for text in one.notices)
    assert any("weight" in text and "(4, 4)" in text and "(8, 4)" in text for text in other.notices)
    assert other.coordinator.state(swarm.now) == "alone"
    assert one.coordinator.state(swarm.now) == "training"
    swarm.run(1.0, train=False)
    assert one.trainer.value == two.trainer.value != other.trainer.value


def test_finish_settles_when_all_finish() -> None:
    swarm = Swarm(faults=Faults(loss=0.1))
    nodes = [swarm.add(number) for number in range(1, 5)]
    swarm.run(10.0)
    for node in nodes:
        node.handle(events.Finish())
    swarm.run(30.0)
    assert all(node.left for node in nodes)
    assert len({node.trainer.value for node in nodes}) == 1
    assert any("all members hold the same updates" in text for node in nodes for text in node.notices)


def test_finish_leaves_its_updates_with_those_who_go_on() -> None:
    swarm = Swarm()
    nodes = [swarm.add(number) for number in range(1, 4)]
    swarm.run(10.0)
    nodes[0].handle(events.Finish())
    swarm.run(20.0)
    assert nodes[0].left
    assert any("goes on holds all our updates" in text for text in nodes[0].notices)
    mine = {update for update in nodes[0].ids if update[0] == nodes[0].author}
    assert mine <= nodes[1].ids


def test_finish_alone_leaves_soon() -> None:
    swarm = Swarm()
    node = swarm.add(1)
    swarm.run(6.0)
    node.handle(events.Finish())
    swarm.run(3.0)
    assert node.left


def test_paused_it_still_takes_the_updates_of_others() -> None:
    swarm = Swarm()
    one, two = swarm.add(1), swarm.add(2)
    swarm.run(6.0)
    one.handle(events.Pause())
    rounds = one.rounds
    swarm.run(10.0)
    swarm.run(1.0, train=False)
    assert one.rounds == rounds
    assert two.rounds > rounds + 5
    assert swarm.agree()
    one.handle(events.Resume())
    swarm.run(3.0)
    assert one.rounds > rounds


def test_partitioned_sides_become_one_again() -> None:
    swarm = Swarm()
    nodes = [swarm.add(number) for number in range(1, 7)]
    swarm.run(8.0)
    for node in nodes[:3]:
        swarm.sides[node.author] = 1
    swarm.run(20.0)
    swarm.run(3.0, train=False)
    assert len(swarm.digests()) == 2
    swarm.sides.clear()
    swarm.run(4.0)
    swarm.run(4.0, train=False)
    assert swarm.agree()


def test_liars_about_blocks_are_counted_and_got_around() -> None:
    swarm = Swarm(large=1.0, lies=0.3)
    swarm.settings = Settings(ban=5.0)
    nodes = [swarm.add(number) for number in range(1, 5)]
    swarm.run(15.0)
    swarm.run(40.0, train=False)
    assert swarm.agree()
    assert sum(node.coordinator.refused[Refusal.BAD_BLOCK] for node in nodes) > 0


def test_whoever_lies_three_times_is_asked_for_nothing_for_a_while() -> None:
    swarm = Swarm(large=1.0)
    one, liar = swarm.add(1), swarm.add(2)
    swarm.run(6.0)
    peer = one.coordinator.peers.get(liar.author)
    for number in range(3):
        assert peer.can_be_asked(swarm.now)
        asked = events.ManifestFetched(liar.author, raw_cid(b"%d" % number), b"something else")
        one.coordinator.handle(asked, swarm.now)
    assert not peer.can_be_asked(swarm.now)
    assert peer.can_be_asked(swarm.now + swarm.settings.ban)


def test_who_has_no_room_for_cuts_still_gives_up_what_the_other_left_out() -> None:
    swarm = Swarm()
    cramped, other = swarm.add(1), swarm.add(2)
    cramped.cramped = True
    swarm.run(20.0)
    swarm.sides[cramped.author] = 1
    swarm.run(17.0)
    cramped.handle(events.Pause())  # Its last rounds will be too old when the other hears of them.
    swarm.run(80.0)
    assert other.coordinator.ledger is not None and other.coordinator.ledger.closed >= int(START + 60) // 8
    swarm.sides.clear()
    swarm.run(60.0, train=False)
    assert len(swarm.digests()) == len(swarm.totals()) == 1


class TestStrangers:
    """What comes from outside and must not get in."""

    def node(self) -> tuple[Swarm, Node]:
        swarm = Swarm()
        node = swarm.add(1)
        swarm.run(5.0)
        return swarm, node

    def update(self, node: Node, seq: int = 1, slot: int | None = None, swarm: bytes | None = None) -> Update:
        ledger = node.coordinator.ledger
        assert ledger is not None
        now = int(node.now())
        return Update(
            swarm or ledger.swarm, seq, now if slot is None else slot, None, 1, 0.1, 0.1, None, b"payload", ()
        )

    def send(self, node: Node, envelope: bytes, reason: Refusal) -> None:
        before, held = node.coordinator.refused[reason], len(node.disk.updates)
        node.handle(events.UpdateHeard(envelope, bytes(32)))
        assert node.coordinator.refused[reason] == before + 1
        assert len(node.disk.updates) == held

    def test_forged_signature(self) -> None:
        _, node = self.node()
        honest, liar = SigningKey(b"h" * 32), SigningKey(b"l" * 32)
        self.send(
            node,
            seal(self.update(node), wire.signer(liar), bytes(honest.verify_key)),
            Refusal.BAD_SIGNATURE,
        )

    def test_garbage(self) -> None:
        _, node = self.node()
        for data in (b"", b"\xff" * 50, bytes(70_000), b"\x84\x01"):
            self.send(node, data, Refusal.MALFORMED)
            held = node.coordinator.refused[Refusal.MALFORMED]
            node.handle(events.HeartbeatHeard(data, bytes(32)))
            assert node.coordinator.refused[Refusal.MALFORMED] == held + 1

    def test_replay_and_conflict_and_order(self) -> None:
        _, node = self.node()
        key = SigningKey(b"k" * 32)
        sign, author = wire.signer(key), bytes(key.verify_key)
        slot = int(node.now())
        first = seal(self.update(node, 1, slot), sign, author)
        node.handle(events.UpdateHeard(first, bytes(32)))
        assert (author, 1) in node.ids
        self.send(node, first, Refusal.DUPLICATE)
        self.send(node, seal(self.update(node, 2, slot + 100), sign, author), Refusal.FUTURE_SLOT)
        self.send(node, seal(self.update(node, 2, slot + 1, b"s" * 32), sign, author), Refusal.WRONG_SWARM)

    def test_an_old_heartbeat_cannot_be_replayed(self) -> None:
        swarm, node = self.node()
        other = swarm.add(2)
        old = Coordinator(other.author, wire.signer(other.key), "topic").farewell(START - 100.0).envelope
        swarm.run(5.0)
        heard = node.coordinator.peers.get(other.author).heard
        swarm.now += 0.1
        node.handle(events.HeartbeatHeard(old, other.author))
        assert node.coordinator.peers.get(other.author).heard == heard

    def test_an_update_larger_than_the_model(self) -> None:
        _, node = self.node()
        key = SigningKey(b"k" * 32)
        parts = tuple(Part(raw_cid(bytes([n])), wire.MAX_PART) for n in range(3))
        update = self.update(node)
        large = Update(update.swarm, 1, update.slot, None, 1, 0.1, 0.1, None, b"", parts)
        self.send(node, seal(large, wire.signer(key), bytes(key.verify_key)), Refusal.OVERSIZED)

    def test_gaps_cannot_grow_for_ever(self) -> None:
        _, node = self.node()
        key = SigningKey(b"k" * 32)
        sign, author = wire.signer(key), bytes(key.verify_key)
        for number in range(300):
            update = self.update(node, 1 + 2 * number, int(node.now()) - 280 + number)
            node.handle(events.UpdateHeard(seal(update, sign, author), bytes(32)))
        assert node.coordinator.refused[Refusal.CROWDED] == 300 - MAX_GAPS
        assert node.coordinator.ledger is not None
        vector = node.coordinator.ledger.vector
        assert VersionVector.from_wire(cbor.decode(cbor.encode(vector.to_wire()), 10**7)) == vector

    def test_announcements_of_nothing_are_forgotten(self) -> None:
        swarm, node = self.node()
        key = SigningKey(b"k" * 32)
        update = self.update(node)
        empty = Update(update.swarm, 1, update.slot, None, 1, 0.1, 0.1, None, b"", (Part(raw_cid(b"none"), 9),))
        node.handle(events.UpdateHeard(seal(empty, wire.signer(key), bytes(key.verify_key)), bytes(32)))
        assert node.coordinator.statistics(swarm.now).fetches_pending == 1
        swarm.run(120.0, train=False)
        assert node.coordinator.statistics(swarm.now).fetches_pending == 0

    def test_a_peer_that_promises_more_and_brings_nothing_is_not_asked_at_once(self) -> None:
        swarm, node = self.node()
        other = swarm.add(2)
        swarm.run(5.0)
        asked = 0
        for _ in range(10):
            reply = SyncReply(VersionVector(), (), more=True)
            todo = node.coordinator.handle(events.SyncReplied(other.author, reply), swarm.now)
            asked += sum(isinstance(action, actions.Sync) for action in todo)
        assert asked == 0

    def test_void_payload_is_counted_and_told(self) -> None:
        _, node = self.node()
        node.handle(events.PayloadVoid((bytes(32), 3)))
        assert node.coordinator.refused[Refusal.VOID] == 1
        assert any("zeros" in text for text in node.notices)


def test_nothing_that_a_cut_makes_void_is_told_the_trainer() -> None:
    """What is corrected in the moment of going over is pruned in the same step."""
    entry = Entry(bytes(32), 1, 2, 3, 0.5, 0.5, None, None, bytes(32))
    load = actions.LoadCut(bytes(36), None, bytes(32), 0)
    add = actions.Apply(entry, 65536)
    told: list[actions.Action] = [actions.Unapply(entry), add, actions.Leave(), load, add]
    assert _without_void(told) == [actions.Leave(), load, add]
    assert _without_void(told[:3]) == told[:3]
