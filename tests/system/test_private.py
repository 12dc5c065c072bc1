"""A private swarm of real daemons: who trains with whom, what each is told, and where the secret is not."""

from __future__ import annotations

from pathlib import Path

import psutil

from learnae.club import Secrets
from learnae.invitation import Invitation
from netsim.daemons import Node, Swarm, equal
from tests.lab import LOCAL, address, start_local

PHRASE = "correct horse battery staple"


def secret_file(tmp_path: Path, *phrases: str) -> Path:
    path = tmp_path / "passphrase"
    path.write_text("".join(f"{phrase}\n" for phrase in phrases or (PHRASE,)))
    path.chmod(0o600)
    return path


def places(swarm: Swarm, node: Node) -> dict[str, str]:
    """Where the secret could be seen: arguments and environments of all children, logs, status, files."""
    family = psutil.Process(node.pid).children(recursive=True)
    assert family, "no trainer runs"
    found = {f"environment of {child.pid}": str(child.environ()) for child in family}
    found |= {f"arguments of {p.pid}": str(p.cmdline()) for p in (psutil.Process(node.pid), *family)}
    found |= {"log": node.log_text(), "status": str(node.status()), "peers": str(node.peers())}
    found |= {
        str(path): path.read_bytes().decode(errors="replace")
        for path in swarm.directory.rglob("*")
        if path.is_file() and path.name != "passphrase"
    }
    return found


def test_members_train_together_and_strangers_are_named_on_both_sides(swarm: Swarm, tmp_path: Path) -> None:
    member = start_local(swarm, "--secret-file", str(secret_file(tmp_path)), name="member")
    swarm.wait_ready(30)
    line = Invitation("t", "digits", (address(member),), Secrets([PHRASE])).line()
    assert Invitation.parse(line).secrets == Secrets([PHRASE])
    friend = swarm.start(
        "--topic", "t", "--task", "digits", *LOCAL, "--peer", address(member), name="friend",
        environment={"LEARNAE_SECRET": PHRASE},
    )  # fmt: skip
    stranger = start_local(swarm, peer=member, name="stranger")
    wrong = swarm.start(
        "--topic", "t", "--task", "digits", *LOCAL, "--peer", address(member), name="wrong",
        environment={"LEARNAE_SECRET": "another passphrase than theirs"},
    )  # fmt: skip
    both = [member, friend]
    swarm.wait_together(40, both)
    swarm.wait_ready(40)
    swarm.wait("the same updates", lambda: equal(both), 40, both)

    assert [node.status()["private"] for node in (member, friend, stranger, wrong)] == [True, True, False, True]
    assert member.status()["swarm"] == friend.status()["swarm"] != stranger.status()["swarm"]
    assert "has no secret" in member.messages() and stranger.status()["peer"] in member.messages()
    assert "this node has no secret" in stranger.messages() and member.status()["peer"] in stranger.messages()
    assert "different secrets" in wrong.messages() and "different secrets" in member.messages()
    assert wrong.status()["peer"] in member.messages() and member.status()["peer"] in wrong.messages()
    for outside in (stranger, wrong):
        assert outside.running and outside.status()["state"] in ("training", "alone", "joining")
        assert outside.status()["peer"] not in str(member.peers())
        assert outside.status()["ledger"]["authors"] <= 1
    assert member.status()["ipfs"] is None or "off" in str(member.status()["ipfs"])
    for node in both:
        assert [where for where, text in places(swarm, node).items() if PHRASE in text] == []


def test_without_its_secret_a_private_profile_does_not_start(swarm: Swarm, tmp_path: Path) -> None:
    file = secret_file(tmp_path)
    node = start_local(swarm, "--secret-file", str(file), name="again")
    swarm.wait("the endpoint", lambda: node.status()["private"], 20)
    node.terminate()
    refused = start_local(swarm, name="again")
    assert refused.exit_code(20) == 2
    assert "no secret was given" in " ".join(refused.log_text().split())
    named = start_local(swarm, "--secret-file", str(file), "--ipfs", "/ip4/127.0.0.1/tcp/5001", name="again")
    assert named.exit_code(20) == 2
    assert "anybody who knows its CID" in " ".join(named.log_text().split())
