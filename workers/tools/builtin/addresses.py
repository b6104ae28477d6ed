"""Which hosts and addresses a tool may connect to.

A name proves nothing: whoever owns it decides what it resolves to, and may decide otherwise a second later. So names
are resolved once, all of their addresses are checked, and what was checked is what is connected to.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import NamedTuple
from urllib.parse import urlsplit

from schemas.errors import Fault, ToolError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PORTS = {"http": 80, "https": 443}

NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address."""
COMPATIBLE = IPv6Network("::/96")
"""RFC 4291, deprecated: the last 32 bits are an IPv4 address."""
NAMED_ONLY = tuple(
    ip_network(one)
    for one in (
        "168.63.129.16/32",  # Azure's metadata service, on an address that looks like any other
        "192.0.0.0/24",  # RFC 6890; Oracle's metadata service is 192.0.0.192
        "fd00:ec2::254/128",  # that of AWS
        "fd20:ce::254/128",  # that of Google
        "fec0::/10",  # site-local, RFC 3879
    )
)
"""Addresses that look public, or like those of any private network, and are neither."""


class Host(NamedTuple):
    """One entry of an allow-list: `example.org`, `*.example.org`, `example.org:8080` or `*`."""

    name: str
    port: int | None

    def lets(self, name: str, port: int) -> bool:
        if port != self.port if self.port is not None else port not in PORTS.values():
            return False
        if self.name == "*":
            return True
        if self.name.startswith("*."):
            return name.endswith(self.name[1:]) and len(name) > len(self.name) - 1
        return name == self.name


def host_of(entry: str) -> Host | Fault:
    """An entry of an allow-list, or what is wrong with it."""
    try:
        parts = urlsplit(f"//{entry}")
        name, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        return Fault("hosts", f"{entry!r}: {error}")
    if (
        not name
        or parts.path
        or parts.query
        or parts.fragment
        or "@" in entry
        or "*" in name.removeprefix("*")
    ):
        return Fault("hosts", f"{entry!r} is no host: write example.org, *.example.org or example.org:8080")
    return Host(name, port)


class Reach:
    """The addresses that may be connected to: public ones, and those of `private`.

    `private` True are loopback and the private networks; link-local addresses, the metadata services of clouds and all
    else that is no unicast address of the internet has to be named as a network. Raises `ValueError`.
    """

    def __init__(self, private: bool | Sequence[str]) -> None:
        self._private = private is True
        self._named = [] if isinstance(private, bool) else [ip_network(one) for one in private]

    def lets(self, address: str) -> bool:
        found = ip_address(address.partition("%")[0])
        return any(found in network for network in self._named) or all(
            self._lets(one) for one in _meant(found)
        )

    def _lets(self, address: Address) -> bool:
        if any(address in network for network in self._named):
            return True
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            return False
        if any(address in network for network in NAMED_ONLY):
            return False
        if address.is_loopback:  # of which IPv6 says that it is reserved, too
            return self._private
        return not address.is_reserved and (address.is_global or (self._private and address.is_private))

    async def addresses(self, host: str, port: int) -> list[str]:
        """Where this host is. Raises `ToolError` if it is nowhere, or if one of its addresses is not allowed."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise ToolError(f"{host} has no address") from None
        addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
        if not all(self.lets(address) for address in addresses):
            raise ToolError(f"{host} has an address that is not public, which is not allowed")
        return addresses


def _meant(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 addresses in it that a gateway or this machine would connect to."""
    if isinstance(address, IPv4Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address.sixtofour is not None:
        yield address.sixtofour
    elif address.teredo is not None:
        yield from address.teredo
    elif address in NAT64 or (address in COMPATIBLE and int(address) > 1):
        yield IPv4Address(int(address) & 0xFFFF_FFFF)
    else:
        yield address
