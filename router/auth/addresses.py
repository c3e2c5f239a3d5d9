"""Client addresses as the unit that limits and fair queues count by."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

PREFIX = 64  # bits of an IPv6 address that name a client's network: the rest is the client's to choose
SITE_PREFIX = 48  # bits that name its site: whoever gets more than one network gets them in there


@lru_cache(4096)
def client_network(host: str) -> str:
    """The network that ``host`` is counted under: an IPv4 address, or the /64 of an IPv6 address.

    An IPv4 address mapped into IPv6 counts as the IPv4 address, and so does that in a 6to4 address, whose
    owner has 65,536 networks. Text that is no address stands for itself.
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
    """The site of a network that ``client_network`` names: the /48 of an IPv6 network, else itself."""
    host, _, length = network.partition("/")
    return _prefix(IPv6Address(host), SITE_PREFIX) if length == str(PREFIX) else network


def _prefix(address: IPv6Address, length: int) -> str:
    low = 128 - length
    return f"{IPv6Address(int(address) >> low << low)}/{length}"
