"""Where a request comes from: what a proxy of ours wrote counts, what anybody may write does not."""

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.connection import ASGIConnection

from heallog.domain.access import Caller
from heallog.entrypoints.http.callers import LONGEST, caller, locate, source

PROXY = "10.0.0.2"


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:cb00:7107", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("testclient", "testclient"),
        ("x" * 500, "x" * LONGEST),
    ],
)
def test_without_proxies_it_is_the_peer(peer: str, address: str) -> None:
    assert source(peer, []) == address
    assert source(peer, ["198.51.100.1"]) == address
    assert source(peer, ["198.51.100.1, 198.51.100.2"], proxies=0) == address


@pytest.mark.parametrize(
    ("forwarded", "proxies", "address"),
    [
        (["203.0.113.7"], 1, "203.0.113.7"),
        (["203.0.113.7, 10.0.0.1"], 2, "203.0.113.7"),
        (["203.0.113.7", "10.0.0.1"], 2, "203.0.113.7"),
        (["203.0.113.7,10.0.0.3,10.0.0.1"], 3, "203.0.113.7"),
        ([" 203.0.113.7 "], 1, "203.0.113.7"),
        (["203.0.113.7:50123"], 1, "203.0.113.7"),
        (["2001:db8:1:2::1"], 1, "2001:db8:1:2::/64"),
        (["[2001:db8:1:2::1]"], 1, "2001:db8:1:2::/64"),
        (["[2001:db8:1:2::1]:50123"], 1, "2001:db8:1:2::/64"),
        (["::ffff:203.0.113.7"], 1, "203.0.113.7"),
    ],
)
def test_behind_proxies_it_is_what_the_outermost_wrote(forwarded: list[str], proxies: int, address: str) -> None:
    assert source(PROXY, forwarded, proxies) == address


@pytest.mark.parametrize(
    "forwarded",
    [
        ["198.51.100.1, 203.0.113.7"],
        ["198.51.100.1", "203.0.113.7"],
        ["198.51.100.1, 198.51.100.2, 203.0.113.7"],
        [", , ,203.0.113.7"],
        ["127.0.0.1,203.0.113.7"],
        ["198.51.100.1,\t203.0.113.7"],
        ["1" * 100_000 + ",203.0.113.7"],
    ],
)
def test_what_a_client_writes_itself_stands_left_of_what_the_proxy_writes(forwarded: list[str]) -> None:
    assert source(PROXY, forwarded, proxies=1) == "203.0.113.7"


@pytest.mark.parametrize(
    ("forwarded", "proxies"),
    [
        ([], 1),
        ([""], 1),
        (["unknown"], 1),
        (["203.0.113.7, "], 1),
        (["203.0.113.7, unknown"], 1),
        (["203.0.113.999"], 1),
        (["203.0.113.7/8"], 1),
        (["203.0.113.07"], 1),
        (["203.0.113.7%eth0"], 1),
        (["<script>"], 1),
        (["203.0.113.7"], 2),
        (["ada@example.org, 10.0.0.1"], 2),
    ],
)
def test_where_no_address_stands_it_is_the_peer(forwarded: list[str], proxies: int) -> None:
    assert source(PROXY, forwarded, proxies) == PROXY


@given(st.lists(st.text(max_size=60)), st.text(alphabet="0123456789abcdef:.,[] %/", max_size=60), st.integers(0, 4))
def test_whatever_is_sent_the_answer_is_an_address(forwarded: list[str], last: str, proxies: int) -> None:
    ip_network(source(PROXY, [*forwarded, last], proxies))


@given(st.lists(st.text(max_size=60), max_size=3), st.ip_addresses(), st.ip_addresses())
def test_nothing_that_is_sent_moves_what_the_proxies_saw(
    sent: list[str], client: IPv4Address | IPv6Address, inner: IPv4Address | IPv6Address
) -> None:
    assert source(PROXY, [*sent, str(client)], 1) == source(str(client), [])
    assert source(PROXY, [*sent, f"{client}, {inner}"], 2) == source(str(client), [])


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_all_addresses_of_one_network_are_one_caller(address: IPv6Address, host: int) -> None:
    neighbour = IPv6Address((int(address) >> 64 << 64) + host)
    if not address.ipv4_mapped and not neighbour.ipv4_mapped:
        assert source(str(address), []) == source(str(neighbour), [])


def test_a_caller_is_read_from_what_was_noted() -> None:
    headers = [(b"x-forwarded-for", b"198.51.100.1"), (b"accept", b"*/*"), (b"x-forwarded-for", b"203.0.113.7")]
    scope: Any = {"type": "http", "headers": headers, "client": (PROXY, 50123), "heallog.request_id": "r-1"}
    locate(scope, 1)
    assert caller(scope) == caller(ASGIConnection(scope)) == Caller("203.0.113.7", "r-1")
    locate(scope, 0)
    assert caller(scope) == Caller(PROXY, "r-1")


def test_a_header_in_any_bytes_is_no_accident() -> None:
    scope: Any = {"type": "http", "headers": [(b"x-forwarded-for", bytes(range(256)))], "client": None}
    locate(scope, 1)
    assert caller(scope) == Caller("", "")
