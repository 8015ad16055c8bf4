"""Files of ours: complete or absent, with checksums, in a cache, under a lock."""
