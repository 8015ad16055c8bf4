"""Study → plan → runs → report: what reproduce.py is made of."""
