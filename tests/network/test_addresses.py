from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae.errors import ConfigError, WireError
from learnaed.network import NetworkSettings
from learnaed.network.addresses import Address, expand, interface_hosts
from tests.network.support import make

PEER = "12D3KooW9pNAk8aiBuGVQtWRdbkLmo5qVL3e2h5UxbN2Nz9ttwiw"


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/192.0.2.7/tcp/4117",
        f"/ip4/192.0.2.7/tcp/4117/p2p/{PEER}",
        f"/ip6/2001:db8::1/tcp/1/p2p/{PEER}",
        f"/dns4/node.example.org/tcp/65535/p2p/{PEER}",
    ],
)
def test_text_round_trip(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.7:4117",
        "/ip4/192.0.2.7",
        "/ip4/192.0.2.700/tcp/1",
        "/ip4/192.0.2.7/tcp/70000",
        "/ip4/192.0.2.7/tcp/-1",
        "/ip4/192.0.2.7/tcp/٣",
        "/ip4/192.0.2.7/udp/1/quic-v1",
        "/ip4/192.0.2.7/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        f"/ip4/192.0.2.7/tcp/1/p2p/{PEER}/p2p-circuit",
        "/dns4/exa mple/tcp/1",
        "/dns4/" + "a" * 500 + "/tcp/1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        Address.parse(text)


@given(st.text(alphabet="/ip46tcdnsp2.:0123456789abcK-", max_size=60))
def test_parsing_never_fails_otherwise(text: str) -> None:
    try:
        address = Address.parse(text)
    except WireError:
        return
    assert Address.parse(str(address)) == address


def test_wildcards_become_interface_addresses_and_loopback_only_if_alone() -> None:
    expanded = expand([Address.parse("/ip4/0.0.0.0/tcp/4117")])
    hosts = [host for kind, host in interface_hosts() if kind == "ip4"]
    wanted = [host for host in hosts if not host.startswith("127.")] or hosts
    assert [address.host for address in expanded] == wanted
    assert all(address.port == 4117 for address in expanded)
    both = [Address.parse("/ip4/127.0.0.1/tcp/1"), Address.parse("/ip4/192.0.2.7/tcp/1")]
    assert expand(both) == both[1:]
    assert expand(both[:1]) == both[:1]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (NetworkSettings(peers=("/ip4/192.0.2.7/tcp/4117",)), "Append /p2p/"),
        (NetworkSettings(peers=("192.0.2.7:4117",)), "not a TCP multiaddr"),
        (NetworkSettings(peers=(f"/ip4/0.0.0.0/tcp/1/p2p/{PEER}",)), "nobody can be dialled"),
    ],
)
def test_an_unusable_peer_is_a_clear_configuration_error(settings: NetworkSettings, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settings.peer_addresses()


def test_settings_are_checked_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="--listen"):
        make("a", listen=("/dns4/example.org/tcp/1",))
    with pytest.raises(ConfigError, match="--listen"):
        make("a", listen=())
