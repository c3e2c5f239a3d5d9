"""The hash function of the hash exchanges, the same in every process, so that a restart moves no key."""

from hashlib import blake2b


def stable_hash(value: str) -> int:
    """Return 64 well mixed bits of ``value``."""
    return int.from_bytes(blake2b(value.encode("utf-8", "surrogateescape"), digest_size=8).digest())
