"""Part of a collection, the same part everywhere."""

from collections.abc import Iterable
from hashlib import blake2b


def first_by_hash(names: Iterable[str], count: int | None, skip: int = 0) -> set[str]:
    """`count` of the names (None: all) after the first `skip`, in the order of their hashes: the same on every machine
    and whatever else is there."""
    ordered = sorted(names, key=lambda name: blake2b(name.encode(), digest_size=8).digest())[skip:]
    return set(ordered[:count])
