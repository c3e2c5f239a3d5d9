"""Grouping of client addresses into networks and sites, the units of limits and fair queues.

Responsible for the names of these groups. ``login_queue``, ``throttle`` and ``router/server/places.py`` count
logins and connections by them.
"""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

PREFIX = 64  # bits of an IPv6 address that name a client's network; clients choose the other bits themselves
SITE_PREFIX = 48  # bits that name its site; several networks of one owner are usually in the same site


@lru_cache(4096)
def client_network(host: str) -> str:
    """Return the network that an address counts under: an IPv4 address, or the /64 of an IPv6 address.

    An IPv4 address mapped into IPv6 counts as the IPv4 address, and so does the one in a 6to4 address, whose
    owner has 65,536 networks. Text that is no address is returned as it is.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    embedded = address.ipv4_mapped or address.sixtofour
    return str(embedded) if embedded is not None else _prefix(address, PREFIX)


@lru_cache(4096)
def client_site(network: str) -> str:
    """Return the site of a network from ``client_network``: the /48 of an IPv6 network, or the network
    itself.
    """
    host, _, length = network.partition("/")
    return _prefix(IPv6Address(host), SITE_PREFIX) if length == str(PREFIX) else network


def _prefix(address: IPv6Address, length: int) -> str:
    low = 128 - length
    return f"{IPv6Address(int(address) >> low << low)}/{length}"
