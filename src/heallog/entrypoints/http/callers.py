"""Where a request comes from, as far as it can be known."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from litestar.connection import ASGIConnection
from litestar.types import Scope

from heallog.domain.access import Caller
from heallog.entrypoints.http.errors import request_id

IPV6_PREFIX = 64
"""What one household or one ward is given; who has it has 2⁶⁴ addresses to ask from."""
LONGEST = 64


def source(peer: str, forwarded: Sequence[str], proxies: int = 0) -> str:
    """The address of whoever asks.

    Without proxies of ours in front it is the peer's, and `X-Forwarded-For` is what anybody may write. Each proxy adds
    at the right end whom it was asked by, so that the n-th from the right was written by the outermost of ours; what
    stands left of it came with the request. Where there is no address in that place, it is the peer's.
    """
    entries = ",".join(forwarded).rsplit(",", proxies)
    named = _address(entries[-proxies]) if 0 < proxies <= len(entries) else ""
    return named or _address(peer) or peer[:LONGEST]


def _address(text: str) -> str:
    """The address in its one way of writing, without a port; of IPv6 the network. Empty where it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(IPv6Network((int(address), IPV6_PREFIX), strict=False))
    return str(address)


def locate(scope: Scope, proxies: int) -> None:
    """Note in the scope where the request comes from; the outermost layer does, which knows the proxies."""
    client = scope.get("client")
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    scope["heallog.address"] = source(client[0] if client else "", forwarded, proxies)  # type: ignore[typeddict-unknown-key]


def caller(place: Scope | ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """Who calls, as the outermost layer noted it."""
    scope = place.scope if isinstance(place, ASGIConnection) else place
    return Caller(str(scope.get("heallog.address", "")), request_id(scope))
