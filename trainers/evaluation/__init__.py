"""Evaluation of rankings: candidates, runs, metrics, significance and reports."""
