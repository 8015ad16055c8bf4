"""The parts of reproduce.py: study → plan → runs → report."""
