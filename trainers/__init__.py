"""Data → scores → gradient, scores → metric."""
