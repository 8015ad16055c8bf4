"""Readers: one function per format that describes a source, and `read_data`, the door to all of them."""

from m3se.trainers.data.readers.read_data import read_data, read_documents


__all__ = ["read_data", "read_documents"]
