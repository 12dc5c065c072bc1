from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from hypercorn.config import Config as HypercornConfig
from prometheus_client.parser import text_string_to_metric_families

from learnae.errors import ConfigError, StoreError
from learnaed.status import StatusSource, create_token, serve
from learnaed.status.files import write_private
from tests.face.fakes import FakeSource, fake_cut

if TYPE_CHECKING:
    from trio_typing import TaskStatus

TOKEN = "correct horse"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def served(
    source: StatusSource, directory: Path | None = None, port: int = 0, remote: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    async with trio.open_nursery() as nursery:

        async def start(*, task_status: TaskStatus[str]) -> None:
            await serve(source, "127.0.0.1", port, TOKEN, remote=remote, directory=directory, task_status=task_status)

        url = await nursery.start(start)
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as client:
            yield client
        nursery.cancel_scope.cancel()


async def test_status_and_peers() -> None:
    source = FakeSource()
    async with served(source) as client:
        answer = await client.get("/api/status")
        api = {"connections": 1, "turned_away": 0, "requests": 1, "refused": 0, "streams": 0}
        assert (answer.status_code, answer.json()) == (200, source.status() | {"api": api})
        assert (await client.get("/api/peers")).json() == source.peers()
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "server" not in answer.headers


async def test_health() -> None:
    source = FakeSource()
    async with served(source) as client:
        answer = await client.get("/healthz")
        assert (answer.status_code, answer.json()) == (200, {"healthy": True, "detail": "training"})
        source.health = (False, "the trainer is down")
        answer = await client.get("/healthz")
        assert (answer.status_code, answer.json()["detail"]) == (503, "the trainer is down")


async def test_metrics_are_prometheus_text() -> None:
    paused = {"reasons": [{"reason": "hours", "text": "not now", "until": None}]}
    async with served(FakeSource(paused=paused)) as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    samples = {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert all(name.startswith("learnae_") for name, _ in samples)
    assert samples["learnae_trainer_rounds_total", ()] == 7
    assert samples["learnae_trainer_accuracy_ratio", ()] == 0.9
    assert samples["learnae_network_sent_bytes_total", ()] == 5000
    assert samples["learnae_cuts_settled", ()] == 98
    assert samples["learnae_cuts_adopted_total", ()] == 1
    assert samples["learnae_snapshot_fetched_bytes", ()] == 34_000
    assert samples["learnae_snapshots_bytes", ()] == 300_000
    assert samples["learnae_snapshots_cap_bytes", ()] == 1_000_000
    assert samples["learnae_snapshots_lost_blocks", ()] == 0
    assert samples["learnae_snapshots_mended_blocks_total", ()] == 1
    assert samples["learnae_ipfs_pins", ()] == 5
    assert samples["learnae_ipfs_state", (("state", "importing"),)] == 1
    assert samples["learnae_state", (("state", "training"),)] == 1
    assert samples["learnae_paused", (("reason", "hours"),)] == 1
    assert samples["learnae_paused", (("reason", "user"),)] == 0
    assert samples["learnae_pauses_total", ()] == 2
    assert samples["learnae_trainer_memory_bytes", ()] == 400_000_000
    assert samples["learnae_refused_total", (("reason", "forged"),)] == 2
    assert samples["learnae_refused_total", (("reason", 'odd "reason"\n'),)] == 1
    assert samples["learnae_dropped_total", (("reason", "busy"),)] == 3
    # None in the status is no sample, not a zero.
    assert ("learnae_trainer_accuracy_averaged_ratio", ()) not in samples


async def test_metrics_of_a_node_that_just_starts() -> None:
    async with served(FakeSource(trainer=None, ledger={}, refused={}, network={}, peer=None, ipfs=None)) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert list(text_string_to_metric_families(answer.text))


async def test_only_local_host_names_are_answered() -> None:
    async with served(FakeSource()) as client:
        port = client.base_url.port
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
            assert (await client.get("/api/status", headers={"Host": host})).status_code == 200
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "127.0.0.1",
            f"127.0.0.1:{port}1",
            f"127.0.0.1.evil:{port}",
        ):
            answer = await client.get("/api/status", headers={"Host": host})
            assert answer.status_code == 421
            assert "local machine only" in answer.json()["error"]
            assert (await client.post("/api/stop", headers={"Host": host, **BEARER})).status_code == 421


async def test_verbs_need_the_token() -> None:
    source = FakeSource()
    async with served(source) as client:
        wrong = [{}, {"Authorization": TOKEN}, {"Authorization": "Bearer"}, {"Authorization": f"Bearer {TOKEN}x"}]
        for headers in wrong:
            answer = await client.post("/api/finish", headers=headers)
            assert answer.status_code == 401
            assert "bearer token" in answer.json()["error"]
        assert source.verbs == []
        for verb in ("finish", "pause", "stop"):
            answer = await client.post(f"/api/{verb}", headers=BEARER)
            assert (answer.status_code, answer.json()) == (202, {"accepted": verb})
        await source.stopped.wait()
        assert source.verbs == ["finish", "pause", "stop"]


async def test_cuts_are_listed_pinned_and_unpinned() -> None:
    source = FakeSource()
    source.cuts = [fake_cut(7), fake_cut(8)]
    async with served(source) as client:
        assert (await client.get("/api/snapshots")).json() == source.cuts
        answer = await client.post("/api/snapshots/bafyrei8/pin", headers=BEARER)
        assert (answer.status_code, answer.json()["cid"], answer.json()["pinned"]) == (200, "bafyrei8", True)
        assert (await client.post("/api/snapshots/bafyrei8/unpin", headers=BEARER)).status_code == 200
    assert source.asked == [("pin", "bafyrei8"), ("unpin", "bafyrei8")]


async def test_a_file_is_imported() -> None:
    source = FakeSource()
    async with served(source) as client:
        path = "/home/me/a b&c=?.car"
        answer = await client.post("/api/import", params={"path": path}, headers=BEARER)
        assert (answer.status_code, answer.json()["index"]) == (200, 8)
        for query in ("", "?path=", "?path=%00"):
            answer = await client.post(f"/api/import{query}", headers=BEARER)
            assert (answer.status_code, answer.json()["error"][:10]) == (400, "which file")
    assert source.asked == [("import", path)]


@pytest.mark.parametrize("path", ["/api/snapshots/bafy/pin", "/api/snapshots/bafy/unpin", "/api/import?path=/x"])
async def test_what_changes_snapshots_needs_the_token(path: str) -> None:
    source = FakeSource()
    async with served(source) as client:
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}):
            answer = await client.post(path, headers=headers)
            assert (answer.status_code, source.asked) == (401, [])
            assert "bearer token" in answer.json()["error"]
        answer = await client.get(path, headers=BEARER)
        assert (answer.status_code, source.asked) == (405, [])
        assert "send POST, with the token" in answer.json()["error"]


async def test_what_cannot_be_done_with_snapshots_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    source = FakeSource()
    async with served(source) as client:
        for cid, error in source.failures.items():
            for path in (f"/api/snapshots/{cid}/pin", f"/api/snapshots/{cid}/unpin", f"/api/import?path={cid}"):
                answer = await client.post(path, headers=BEARER)
                assert (answer.status_code, answer.json()) == (409, {"error": str(error), "code": type(error).code})

        async def unreadable() -> list[dict[str, Any]]:
            raise StoreError("the disk cannot be read. Check it.")

        monkeypatch.setattr(source, "snapshots", unreadable)
        answer = await client.get("/api/snapshots")
        assert (answer.status_code, answer.json()) == (
            409,
            {"error": "the disk cannot be read. Check it.", "code": "file-damaged"},
        )


async def test_errors_are_json_with_a_message() -> None:
    source = FakeSource()
    async with served(source) as client:
        for answer, status, text in (
            (await client.get("/nothing"), 404, "see /api/docs"),
            (await client.get("/api/finish"), 405, "send POST, with the token"),
            (await client.post("/api/explode", headers=BEARER), 404, "see /api/docs"),
            (await client.post("/metrics"), 405, "send GET"),
            (await client.post("/api/status", headers=BEARER), 405, "send GET"),
            (await client.post("/api/resume", headers=BEARER), 409, "not paused"),
        ):
            assert answer.status_code == status
            assert text in answer.json()["error"]


async def test_bodies_are_bounded() -> None:
    source = FakeSource()
    async with served(source) as client:
        assert (await client.post("/api/pause", headers=BEARER, content=b"x" * 4096)).status_code == 202
        answer = await client.post("/api/finish", headers=BEARER, content=b"x" * 100_000)
        assert (answer.status_code, source.verbs) == (413, ["pause"])


async def test_a_body_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learnaed.status.api.BODY_SECONDS", 0.1)
    source = FakeSource()

    async with served(source) as client:
        port = client.base_url.port
        assert port is not None
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            head = f"POST /api/pause HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n"
            await stream.send_all(f"{head}Content-Length: 5\r\n\r\nx".encode())
            with trio.fail_after(5):
                assert b" 408 " in await stream.receive_some()
    assert source.verbs == []


async def test_a_request_may_wait_for_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypercorn would end it if it had a read timeout, which runs while the client has nothing more to say."""
    source = FakeSource()

    async def slow(cid: str) -> dict[str, Any]:
        await trio.sleep(0.5)
        return fake_cut(1)

    monkeypatch.setattr(source, "pin", slow)
    monkeypatch.setattr(HypercornConfig, "keep_alive_timeout", 0.1)
    async with served(source) as client:
        assert (await client.post("/api/snapshots/bafyrei1/pin", headers=BEARER)).status_code == 200


async def test_garbage_and_a_defect_do_not_end_the_server(caplog: pytest.LogCaptureFixture) -> None:
    source = FakeSource()
    async with served(source) as client:
        port = client.base_url.port
        assert port is not None
        for garbage in (
            os.urandom(5000),
            b"GET / HTTP/1.1\r\nHost: " + b"a" * 100_000,
            b"GET /api/status HTTP/1.1\r\n\r\n",
        ):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                await stream.send_all(garbage)
                with trio.move_on_after(0.5):
                    await stream.receive_some()
        source.broken = True
        answer = await client.get("/api/status")
        assert answer.status_code == 500
        assert "a defect" not in answer.text
        source.broken = False
        assert (await client.get("/api/status")).status_code == 200
    assert "status request failed" in caplog.text


async def test_a_taken_port_gives_the_next() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with served(FakeSource(), port=port) as client:
            assert client.base_url.port is not None
            assert port < client.base_url.port <= port + 31


async def test_no_free_port_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learnaed.status.server.PORT_TRIES", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="--status-port"):
            await serve(FakeSource(), "127.0.0.1", taken.getsockname()[1], TOKEN)


async def test_it_never_listens_beyond_loopback() -> None:
    with pytest.raises(ConfigError, match="SSH tunnel"):
        await serve(FakeSource(), "0.0.0.0", 0, TOKEN)


async def test_the_files_of_a_profile(tmp_path: Path) -> None:
    token = create_token(tmp_path)
    assert len(token) > 40 and (tmp_path / "token").read_text() == token
    path = tmp_path / "status.json"
    async with served(FakeSource(), tmp_path) as client:
        content = json.loads(path.read_text())
        assert content == {
            "url": str(client.base_url).rstrip("/"),
            "pid": os.getpid(),
            "peer": FakeSource().state["peer"],
            "topic": "test",
        }
        if os.name == "posix":
            assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("token", "status.json")} == {0o600}
    assert (await trio.Path(tmp_path / "token").exists(), await trio.Path(path).exists()) == (True, False)


async def test_the_status_file_of_a_successor_stays(tmp_path: Path) -> None:
    async with served(FakeSource(), tmp_path):
        (tmp_path / "status.json").write_text('{"pid": -1}')
    assert (tmp_path / "status.json").exists()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        write_private(tmp_path / "none" / "token", "x")
