from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from nacl.signing import SigningKey

from learnae import wire
from learnae.cid import raw_cid
from learnae.learner import Round
from learnae.wire import Part, Update
from netsim import attacks
from netsim.attacks import kinds, vectors
from netsim.crew import Heard
from netsim.errors import ScenarioError
from netsim.scenario import Nodes, Run, Scenario, Workload
from netsim.workloads.images import Images, Pupil

NODES = 5
SHARE = 1 / NODES
KEY = SigningKey(bytes(32))
AUTHOR = bytes(KEY.verify_key)


@cache
def swarm() -> tuple[list[Pupil], list[Round]]:
    workload = Workload(task="digits", alpha=0.3)
    crew = Images(Scenario(purpose="a test", run=Run(seconds=10), workload=workload, nodes=(Nodes(count=NODES),)), 0)
    learners = [crew.trainer(number) for number in range(NODES)]
    for learner in learners:
        learner.advance(10)
    return learners, [learner.finish_round(SHARE) for learner in learners]


def heard() -> list[Heard]:
    learners, rounds = swarm()
    payloads = [learners[0].payload(done.norm, done.parts) for done in rounds[1:]]
    return [Heard(payload, done.norm, 8) for payload, done in zip(payloads, rounds[1:], strict=True)]


def attacked(name: str, known: list[Heard] | None = None) -> Round:
    learners, rounds = swarm()
    done = attacks.named(name).round(learners[0], rounds[0], heard() if known is None else known, SHARE)
    assert done is not None
    return done


def effect(done: Round) -> np.ndarray:
    learner = swarm()[0][0]
    payload = learner.payload(done.norm, done.parts)
    assert payload.void is None
    return vectors.dense(learner.replica, payload).astype(np.float64)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("name", [name for name in attacks.KINDS if name != "silent"])
def test_every_attack_makes_a_payload_that_keeps_to_its_claim(name: str) -> None:
    done = attacked(name)
    assert done.norm == pytest.approx(float(np.linalg.norm(effect(done))), rel=2e-3)


def test_flipped_signs_and_other_sizes_are_what_they_say() -> None:
    honest = effect(swarm()[1][0])
    np.testing.assert_allclose(effect(attacked("sign-flip")), -4 * honest, rtol=1e-6)
    np.testing.assert_allclose(effect(attacked("sign-flip-once")), -honest, rtol=1e-6)
    np.testing.assert_allclose(effect(attacked("oversized")), NODES * honest, rtol=1e-3)
    assert attacks.named("oversized").share(SHARE) == 1.0
    assert attacks.named("sign-flip").share(SHARE) == SHARE


def test_vectors_point_where_they_shall() -> None:
    learner = swarm()[0][0]
    mean = np.mean([vectors.dense(learner.replica, one.payload) for one in heard()], axis=0)
    weights = learner.replica.read()
    for name, pushed in (("ipm", mean), ("adaptive", mean), ("sybil", weights), ("reversed", weights)):
        sent = effect(attacked(name))
        kept = sent != 0  # the largest entries alone, as in every update
        assert cosine(sent[kept], pushed[kept]) < -0.9
        assert cosine(sent, pushed) < -0.2
    assert abs(cosine(effect(attacked("noise")), mean)) < 0.2


def test_who_adapts_stays_just_inside_the_clip_and_sybils_are_as_long_as_others() -> None:
    usual = float(np.median([one.norm for one in heard()]))
    assert 0.95 * kinds.CLIP * usual <= attacked("adaptive").norm < kinds.CLIP * usual
    assert 0.95 * usual <= attacked("sybil").norm <= usual
    assert attacked("noise").norm > 50 * usual


def test_all_sybils_push_the_same_way() -> None:
    learners, rounds = swarm()
    pushes = [
        attacks.named("sybil").round(learner, done, heard(), SHARE)
        for learner, done in zip(learners, rounds, strict=True)
    ]
    assert len({tuple(push.parts) for push in pushes if push is not None}) == 1


def test_a_little_is_enough_hides_among_the_honest() -> None:
    updates = [np.array(row, np.float32) for row in np.random.default_rng(0).normal(1.0, 2.0, (8, 500))]
    little, mean, spread = vectors.little(updates, 0.2), np.mean(updates, axis=0), np.std(updates, axis=0)
    assert (little <= mean).all()
    assert (np.abs(little - mean) <= 1.0 * spread).all()
    assert np.linalg.norm(little - mean) <= max(float(np.linalg.norm(update - mean)) for update in updates)


def test_who_has_heard_nobody_stays_honest_where_it_needs_others() -> None:
    for name in ("alie", "ipm", "adaptive"):
        assert attacked(name, []) is swarm()[1][0]


def test_who_is_silent_hands_in_nothing() -> None:
    learners, rounds = swarm()
    assert attacks.named("silent").round(learners[0], rounds[0], [], SHARE) is None


def envelope(seq: int, done: Round) -> bytes:
    parts = tuple(Part(raw_cid(part), len(part)) for part in done.parts)
    update = Update(bytes(32), seq, 8, None, done.samples, SHARE, done.norm, done.loss, b"", parts)
    return wire.seal(update, wire.signer(KEY), AUTHOR)


def test_who_equivocates_signs_two_updates_under_one_number() -> None:
    learners, rounds = swarm()
    attack = attacks.named("equivocation")
    done = attack.round(learners[0], rounds[0], [], SHARE)
    assert done is rounds[0]
    honest = envelope(3, done)
    first, second = attack.publish(AUTHOR, wire.signer(KEY), honest)
    assert first == honest
    one, other = (wire.open_envelope(Update, found).message for found in (first, second))
    assert (one.seq, one.slot, one.norm) == (other.seq, other.slot, other.norm)
    assert one.blocks != other.blocks


def test_who_replays_says_what_it_has_said() -> None:
    attack = attacks.named("replay")
    said = [envelope(seq, swarm()[1][0]) for seq in range(1, 16)]
    heard_of_it = [attack.publish(AUTHOR, wire.signer(KEY), one) for one in said]
    assert heard_of_it[0] == (said[0],)
    assert heard_of_it[1] == (said[0],)
    assert all(set(found) <= set(said[:number]) for number, found in enumerate(heard_of_it) if number)
    assert max(map(len, heard_of_it)) <= 10


def test_attacks_are_found_by_name() -> None:
    assert attacks.poisons("label-flip")
    assert not attacks.poisons("sign-flip")
    with pytest.raises(ScenarioError, match="sign-flip"):
        attacks.named("evil")
