from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from learnae import __version__
from learnae.cid import DAG_CBOR, make_cid, raw_cid, to_text
from learnae.config import Config, flag
from learnae.errors import ConfigError, StoreError
from learnae.peer import peer_id
from learnae.tasks import BUILT_IN
from learnaed import __main__, main
from learnaed.network.settings import NetworkSettings

PEER = f"/ip4/192.0.2.7/tcp/4117/p2p/{peer_id(bytes(32))}"


@pytest.fixture
def base(tmp_path: Path) -> dict[str, Any]:
    return {"topic": "t", "task": "digits", "home": str(tmp_path)}


def test_defaults(base: dict[str, Any], tmp_path: Path) -> None:
    config = Config.resolve(base, {})
    assert config == Config(topic="t", task="digits", home=tmp_path)
    assert (config.shard_index, config.shard_count) == (1, 1)
    assert config.status_port == 4118
    assert config.mdns and not config.paused
    with pytest.raises(FrozenInstanceError):
        config.topic = "other"  # type: ignore[misc]


def test_flags_win_over_environment_over_file(base: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "learnae.toml").write_text('seed = 1\nrounds = 1\nskew = 0.1\n"status-port" = 5000\nmdns = false\n')
    environment = {
        "LEARNAE_SEED": "2",
        "LEARNAE_ROUNDS": "2",
        "LEARNAE_PEER": f"{PEER} {PEER}",
        "LEARNAE_PAUSED": "yes",
    }
    config = Config.resolve({**base, "seed": "3", "rounds": None, "peer": ()}, environment)
    assert (config.seed, config.rounds, config.skew) == (3, 2, 0.1)
    assert (config.status_port, config.mdns, config.paused) == (5000, False, True)
    assert config.peer == (PEER, PEER)
    assert config.config == tmp_path / "learnae.toml"


def test_a_named_file_replaces_the_one_in_home(base: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "learnae.toml").write_text("seed = 1\n")
    named = tmp_path / "other.toml"
    named.write_text("rounds = 5\n")
    config = Config.resolve({**base, "config": str(named)}, {})
    assert (config.seed, config.rounds, config.config) == (0, 5, named)


def test_home_comes_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "learnae.toml").write_text('topic = "x"\ntask = "digits"\nlisten = ["/ip6/::1/tcp/0"]\n')
    config = Config.resolve({}, {"LEARNAE_HOME": str(tmp_path)})
    assert (config.topic, config.home, config.listen) == ("x", tmp_path, ("/ip6/::1/tcp/0",))


def test_an_unknown_key_is_refused_with_the_nearest(base: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "learnae.toml").write_text("torch_thread = 1\n")
    with pytest.raises(ConfigError, match=r"'torch_thread'.*'torch_threads'"):
        Config.resolve(base, {})


@pytest.mark.parametrize("content", [b"seed = ", b"\xff\xfe"])
def test_a_broken_file(base: dict[str, Any], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "learnae.toml").write_bytes(content)
    with pytest.raises(ConfigError, match="not valid TOML"):
        Config.resolve(base, {})


def test_a_named_file_that_is_missing(base: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.resolve({**base, "config": str(tmp_path / "none.toml")}, {})


@pytest.mark.parametrize("name", ["topic", "task"])
def test_what_must_be_said(base: dict[str, Any], name: str) -> None:
    del base[name]
    with pytest.raises(ConfigError, match=f"--{name}"):
        Config.resolve(base, {})


BAD = [
    ("topic", "a b"),
    ("topic", "x" * 65),
    ("topic", "../up"),
    ("task", " "),
    ("task", "digit"),
    ("task", "bad.py"),
    ("task", "none.py:Task"),
    ("task", f"{__file__}:not-a-class"),
    ("shard", "0/2"),
    ("shard", "3/2"),
    ("shard", "1"),
    ("shard", 1),
    ("skew", "0"),
    ("skew", "nan"),
    ("skew", "much"),
    ("skew", True),
    ("data", "/no/such/directory"),
    ("listen", "/ip4/999.0.0.1/tcp/1"),
    ("listen", "/ip4/127.0.0.1/tcp/70000"),
    ("listen", "/ip4/127.0.0.1/udp/1"),
    ("listen", [1]),
    ("listen", 5),
    ("peer", "/ip4/192.0.2.7/tcp/4117"),
    ("peer", "/ip4/192.0.2.7/tcp/4117/p2p/nonsense"),
    ("peer", PEER.replace("4117", "99999")),
    ("profile", ".hidden"),
    ("status_port", "65536"),
    ("status_port", "-1"),
    ("seed", "1.5"),
    ("seed", True),
    ("rounds", "0"),
    ("init", "no-such-file.safetensors"),
    ("init", to_text(raw_cid(b"a leaf"))),
    ("start", "bafyreinonsense"),
    ("start", "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWNFmdG"),
    ("start", to_text(raw_cid(b"a leaf"))),
    ("ipfs", "yes"),
    ("ipfs", "127.0.0.1:5001"),
    ("ipfs", "/ip4/127.0.0.1/udp/5001"),
    ("snapshot_cap", "0"),
    ("snapshot_cap", "1000kB"),
    ("snapshot_cap", "2XB"),
    ("snapshot_cap", "-5GB"),
    ("snapshot_cap", True),
    ("mdns", "perhaps"),
    ("log_format", "xml"),
    ("log_level", "loud"),
    ("torch_threads", "0"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_values_name_their_source_and_a_remedy(base: dict[str, Any], name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{flag(name)} is .*, but ") as caught:
        Config.resolve({**base, name: value}, {})
    assert "must" in str(caught.value) or "is not a directory" in str(caught.value)
    with pytest.raises(ConfigError, match=f"^{name} is "):
        Config(**{"topic": "t", "task": "digits", "home": Path("/x"), name: value})
    if isinstance(value, str) and value.strip() and " " not in value:
        with pytest.raises(ConfigError, match=f"^LEARNAE_{name.upper()} is "):
            Config.resolve({key: kept for key, kept in base.items() if key != name}, {f"LEARNAE_{name.upper()}": value})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 2**20),
        (2**21, 2**21),
        ("500MB", 500_000_000),
        ("500 M", 500_000_000),
        ("20GiB", 20 * 2**30),
        ("3Gi", 3 * 2**30),
        ("2TB", 2 * 10**12),
        ("2000kB", 2_000_000),
    ],
)
def test_sizes_are_bytes_with_or_without_a_unit(base: dict[str, Any], text: object, size: int) -> None:
    assert Config.resolve({**base, "snapshot_cap": text}, {}).snapshot_cap == size


def test_where_snapshots_come_from_and_go_to(base: dict[str, Any]) -> None:
    config = Config.resolve(base, {})
    assert (config.start, config.ipfs, config.snapshot_cap) == (None, "auto", 20 * 2**30)
    cut = to_text(make_cid(DAG_CBOR, b"a cut"))
    for address in ("off", "auto", "/ip4/192.0.2.1/tcp/5001", "/dns4/ipfs.example/tcp/443/https"):
        config = Config.resolve({**base, "start": cut}, {"LEARNAE_IPFS": address, "LEARNAE_SNAPSHOT_CAP": "1GB"})
        assert (config.start, config.ipfs, config.snapshot_cap) == (cut, address, 10**9)
    assert Config.resolve(base, {"LEARNAE_START": cut}).start == cut


def test_a_task_is_built_in_or_a_class_in_a_file_that_exists(base: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("")
    own = f"{tmp_path / 'bad.py'}:MyTask"
    assert Config.resolve({**base, "task": own}, {}).task == own
    for name in BUILT_IN:
        assert Config.resolve({**base, "task": name}, {}).task == name
        with pytest.raises(ConfigError, match=name):
            Config.resolve({**base, "task": "nothing"}, {})
    for text in ("bad.py", "bad.py:"):
        with pytest.raises(ConfigError, match=r"write bad\.py:YourClass"):
            Config.resolve({**base, "task": text}, {})
    with pytest.raises(ConfigError, match=r"none\.py is none"):
        Config.resolve({**base, "task": f"{tmp_path / 'none.py'}:MyTask"}, {})


def test_addresses_that_the_network_refuses_come_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match=r"not a TCP port.*learnae status"):
        NetworkSettings(peers=(PEER.replace("4117", "99999"),)).peer_addresses()
    with pytest.raises(ConfigError, match=r"--listen .*/ip4/0\.0\.0\.0/tcp/4117"):
        NetworkSettings(listen=("/ip4/here/tcp/1",)).listen_addresses()


def test_help_teaches() -> None:
    runner = CliRunner()
    assert "learnaed run --topic hello --task digits --shard 1/2" in runner.invoke(main.cli, ["--help"]).output
    text = runner.invoke(main.cli, ["run", "--help"]).output
    for name in Config.__dataclass_fields__:
        assert flag(name) in text
    assert "Exit codes" in text
    assert ",".join(BUILT_IN) in "".join(text.split())  # a line may break at any hyphen


def test_version() -> None:
    texts = [CliRunner().invoke(main.cli, [word]).output for word in ("--version", "version")]
    assert texts == [f"learnaed {__version__}\n"] * 2


def test_a_wrong_flag_is_one_block_and_exit_code_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(main.cli, ["run", "--topic", "t", "--task", "digits", "--shard", "9/2"])
    assert result.exit_code == 2
    assert "--shard is '9/2'" in result.stderr
    assert "Traceback" not in result.stderr


def test_errors_of_the_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class App:
        error: Exception

        @classmethod
        def run(cls, config: Config, secrets: object) -> int:
            raise cls.error

    monkeypatch.setitem(sys.modules, "learnaed.app", App)
    monkeypatch.setattr("learnaed.app", App, raising=False)
    flags = ["run", "--topic", "t", "--task", "digits", "--home", str(tmp_path)]
    App.error = ExceptionGroup("nursery", [StoreError("the disk is full. Make room.")])
    result = CliRunner().invoke(main.cli, flags)
    assert (result.exit_code, result.stderr) == (1, "learnaed: [file-damaged] the disk is full. Make room.\n")
    App.error = ZeroDivisionError()
    result = CliRunner().invoke(main.cli, flags)
    assert result.exit_code == 1
    assert "unexpected ZeroDivisionError" in result.stderr and "Traceback" not in result.stderr
    assert "Traceback" in CliRunner().invoke(main.cli, [*flags, "--log-level", "debug"]).stderr


def test_ctrl_c_while_it_loads_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loading:
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "learnaed.main", Loading())
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 0


def test_the_command_loads_nothing_heavy() -> None:
    code = (
        "import sys, learnaed.main; heavy = {'torch', 'libp2p', 'numpy', 'trio', 'rich', 'httpx'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
