"""Teachers: cross-encoders whose scores students learn from, kept in a cache."""
