"""A private swarm of real daemons: who trains with whom, what each is told, and where the secret is not."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import psutil

from netsim.daemons import Node, Swarm
from tests.lab import LOCAL, address

PHRASE = "correct horse battery staple"


def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text(f"{PHRASE}\n")
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


def says(node: Node, text: str) -> bool:
    return text in node.messages()


def alone(node: Node) -> bool:
    """Nobody is connected, and nobody's heartbeat was heard."""
    return not any(peer["connected"] or peer["last_seen"] is not None for peer in node.peers())


def test_members_train_together_and_others_are_told_why_they_do_not(swarm: Swarm, tmp_path: Path) -> None:
    task = ("--topic", "t", "--task", "digits", *LOCAL)
    member = swarm.start(*task, "--secret-file", str(secret_file(tmp_path)), name="member")
    swarm.wait("the endpoint", lambda: member.status()["listen"], 40)
    dials = ("--peer", address(member))
    friend = swarm.start(*task, *dials, name="friend", environment={"LEARNAE_SECRET": PHRASE})
    both = [member, friend]
    swarm.wait_together(60, both)
    swarm.wait("updates of both", lambda: min(node.status()["ledger"]["authors"] for node in both) == 2, 60, both)

    stranger = swarm.start(*task, *dials, name="stranger")
    wrong = swarm.start(*task, *dials, name="wrong", environment={"LEARNAE_SECRET": "another passphrase than theirs"})
    for outsider, here, there in (
        (stranger, "has no secret", "this node has no secret"),
        (wrong, "different secrets", "different secrets"),
    ):
        swarm.wait("what the member says", partial(says, member, here), 40, both)
        swarm.wait("what the outsider says", partial(says, outsider, there), 40, [outsider])
        status = outsider.status()
        assert status["peer"] in member.messages() and member.status()["peer"] in outsider.messages()
        assert status["private"] is (outsider is wrong)
        assert status["peer"] not in str(member.peers())
        swarm.wait("an end of the connection", partial(alone, outsider), 20, [outsider])
        assert outsider.terminate(20)[0] == 0

    for node in both:
        assert node.status()["private"] and node.status()["ipfs"] is None
        assert [where for where, text in places(swarm, node).items() if PHRASE in text] == []
    assert friend.terminate(20)[0] == 0
    without = swarm.start(*task, *dials, name="friend")
    assert without.exit_code(40) == 2
    assert "no secret was given" in " ".join(without.log_text().split())
