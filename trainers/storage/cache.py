"""The cache: folders that are named by a key of what they were made of."""

import json
import logging
import os
import shutil
from hashlib import blake2b
from pathlib import Path

from m3se.trainers.storage.checksums import find_damage


logger = logging.getLogger(__name__)


def cache_root(cache_dir: str | Path | None) -> Path:
    """Return the folder of prepared data: `cache_dir`, or `~/.cache/m3se`."""
    return Path(cache_dir) if cache_dir else Path.home() / ".cache" / "m3se"


def cache_key(*parts: object) -> str:
    """Return 16 hexadecimal digits that stand for `parts`, which may be anything that JSON can hold."""
    return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def file_key(*files: Path) -> list:
    """Return path, size and time of change of each file: a key of its version that does not need its content."""
    return [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def reusable(folder: Path) -> bool:
    """Tell whether the cache has `folder`. Put a damaged one aside, with a warning, so that it is made again."""
    damage = find_damage(folder) if folder.exists() else None
    if damage:
        logger.warning("%s: %s; put aside, and made again", folder, damage)
        aside = folder.with_name(f"{folder.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
    return folder.exists()
