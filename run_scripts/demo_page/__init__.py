"""The page of demo.py and of a published Space: searches side by side, and what a run has measured."""
