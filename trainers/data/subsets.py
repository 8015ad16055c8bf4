"""Part of a collection, the same part everywhere."""

from collections.abc import Iterable
from hashlib import blake2b

from m3se.trainers.errors import InputError


def hash_subset(names: Iterable[str], count: int | None, skip: int = 0) -> set[str]:
    """`count` of the names (None: all) after the first `skip`, in the order of their hashes: the same on every machine
    and whatever else is there. Raises InputError for a negative number of them."""
    if min(count or 0, skip) < 0:
        raise InputError(f"expected a number of queries, 0 or more, got {min(count or 0, skip)}")
    ordered = sorted(names, key=lambda name: blake2b(name.encode(), digest_size=8).digest())[skip:]
    return set(ordered[:count])
