"""Why and how a node goes over to what others hold: another cut, history or genesis; part of the coordinator."""

from __future__ import annotations

from itertools import islice

from learnae.coordinator import adoption
from learnae.coordinator.actions import Action, Drop, GoOver, KeepCut, Notice, Settle
from learnae.coordinator.adoption import Goal
from learnae.coordinator.history import History
from learnae.coordinator.memory import Memory
from learnae.coordinator.peers import Members, Peer, opinions
from learnae.ledger import Kept, Ledger
from learnae.manifest import Manifest
from learnae.wire import CutId


class Crossing:
    """Finds the reasons, and changes everything over when all that is needed is on disk."""

    def __init__(self, memory: Memory, history: History) -> None:
        self._memory = memory
        self._history = history
        self._curious: CutId | None = None

    def follow(self, members: Members, now: float) -> list[Action]:
        """Find reasons to go over to what others have, and do it when all is here."""
        memory = self._memory
        assert memory.ledger is not None
        memory.adoption.pursue(self._reason(members, now), now)
        goal = memory.adoption.goal
        if goal is None:
            curious = self._curious
            if curious is None:
                return []
            holders = [p.key for p in members if p.can_be_asked(now) and p.attests(curious)]
            return memory.cuts.fetch(curious.cid, holders, now)
        holders = [
            peer.key
            for peer in memory.peers.connected
            if peer.can_be_asked(now)
            and peer.heartbeat is not None
            and peer.heartbeat.swarm == goal.swarm
            and (goal.cut is None or peer.attests(goal.cut))
        ]
        actions, manifest, complete = memory.adoption.due(memory.cuts, holders, memory.snapshots.__contains__, now)
        if complete:
            actions += self._go_over(goal, manifest, now)
        return actions

    def _reason(self, members: Members, now: float) -> Goal | None:
        """Why to go over to another cut or swarm now, if so."""
        memory = self._memory
        assert memory.ledger is not None and memory.genesis is not None
        ledger, lasting = memory.ledger, memory.adoption.lasting
        if memory.lost:
            settled = memory.cuts.newest_settled()
            found = adoption.most_attested(members.opinions, -1) or (settled[-1] if settled else None)
            return Goal("the own weights are lost", ledger.swarm, memory.genesis, found)
        cut = self._other_side(members, now)
        if cut is not None:
            return Goal("the swarm had parted, and the other side has done more", ledger.swarm, memory.genesis, cut)
        # The trainer must be up: what it holds decides whether anything is missing.
        newest = adoption.most_attested(members.opinions, ledger.closed, memory.cuts.voters)
        # Most of those who could tell: a single member may claim anything.
        near = [p for p in memory.peers.connected if p.key in members.keys]
        voters = [p.heartbeat for p in near if p.heartbeat and memory.cuts.votes(p.key)]
        judges = [beat for beat in voters if beat.settled]
        memory.behind = 2 * sum(beat.floor > ledger.closed for beat in judges) > len(judges)
        if newest is not None and lasting("behind", holds=memory.behind, now=now):
            why = "the others have settled far more than this node has"
            return Goal(why, ledger.swarm, memory.genesis, newest)
        if newest is not None and lasting("beyond", holds=memory.beyond, now=now):
            why = "most others hold other weights, or another history"
            return Goal(why, ledger.swarm, memory.genesis, newest)
        return self._other_genesis(members, now)

    def _other_side(self, members: Members, now: float) -> CutId | None:
        """The newest cut of those who settled another history, if they have done more than this side."""
        memory = self._memory
        assert memory.ledger is not None
        ours, theirs = adoption.parted(memory.ledger, members.opinions)
        cut = adoption.most_attested(theirs, -1)
        newest = memory.cuts.settled[max(memory.cuts.settled)] if memory.cuts.settled else None
        self._curious = None
        if cut is None or newest is None:
            return None
        manifest = memory.cuts.known(cut.cid)
        if manifest is None:
            self._curious = cut
            return None
        here = {memory.author, *adoption.holding(ours)}
        worse = adoption.heavier(here, newest, adoption.holding(theirs), manifest)
        return cut if memory.adoption.lasting("parted", holds=worse, now=now) else None

    def _other_genesis(self, members: Members, now: float) -> Goal | None:
        memory = self._memory
        assert memory.ledger is not None and memory.genesis is not None
        swarms: dict[bytes, list[Peer]] = {}
        for swarm, strangers in memory.strangers(now):
            if swarm is None:
                continue
            for peer in strangers:
                known = peer.genesis is not None and peer.genesis.swarm_id(memory.topic) == swarm
                if known and peer.genesis is not None and memory.genesis.differs_only_in_weights(peer.genesis):
                    swarms.setdefault(swarm, []).append(peer)
        for swarm, peers in sorted(swarms.items()):
            wins = adoption.better_genesis(memory.ledger.swarm, len(memory.ledger), len(members), swarm, peers)
            if memory.adoption.lasting(f"genesis {swarm.hex()}", holds=wins, now=now):
                pruned = all(peer.heartbeat is not None and peer.heartbeat.floor >= 0 for peer in peers)
                cut = adoption.most_attested(opinions(peers), -1) if pruned else None
                genesis = peers[0].genesis
                assert genesis is not None
                return Goal("others on the topic started from other weights and have done more", swarm, genesis, cut)
        return None

    def _go_over(self, goal: Goal, manifest: Manifest | None, now: float) -> list[Action]:
        """Everything is on disk: change to the goal, keep what can be kept, replay it."""
        memory = self._memory
        assert memory.ledger is not None and memory.own_genesis is not None
        old = memory.ledger
        actions: list[Action] = [
            Notice("warning" if len(old) else "info", f"going over to a cut of others: {goal.reason}")
        ]
        if not memory.steering.ready:
            return []
        if goal.swarm != old.swarm:
            own = memory.own_genesis.swarm_id(memory.topic)
            actions.append(GoOver(own, goal.swarm, goal.genesis))
            actions += self._history.open(goal.genesis, Kept(), now)
        if manifest is not None:
            ledger = Ledger(goal.swarm, goal.genesis.rules, manifest, memory.tolerance(goal.genesis))
            gone = tuple(old.entries()) if goal.swarm == old.swarm else ()
            memory.ledger = ledger
            memory.cuts.reset([manifest])
            memory.fetcher.forget()
            memory.repair.begin(ledger.digest)
            actions += [KeepCut(goal.swarm, manifest.id, manifest.encode()), Settle(goal.swarm, manifest.id)]
            if gone:
                actions.append(Drop(goal.swarm, gone))
            actions.append(self._history.prune_store(manifest))
        memory.adoption.reached()
        memory.steering.caught_up = False
        memory.joined_at = now
        connected = (peer.key for peer in memory.peers.connected if peer.key in memory.members(now).keys)
        for key in islice(connected, memory.settings.parallel):  # heartbeats tell whether it takes more than these
            memory.repair.ask(key, now)
        return [*actions, *self._history.load(manifest)]
