"""Client addresses as the unit that limits and fair queues count by."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

PREFIX = 64  # bits of an IPv6 address that name a client's network: the rest is the client's to choose


@lru_cache(4096)
def client_network(host: str) -> str:
    """The network that ``host`` is counted under: an IPv4 address, or the /64 of an IPv6 address.

    An IPv4 address mapped into IPv6 counts as the IPv4 address. Text that is no address stands for itself.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    low = 128 - PREFIX
    return f"{IPv6Address(int(address) >> low << low)}/{PREFIX}"
