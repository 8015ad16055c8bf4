"""Models before they are used: what a folder holds, how a text becomes tokens, and whether both fit together."""
