"""Diagnostics of a student beside its teacher."""
