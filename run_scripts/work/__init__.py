"""The work of the commands, whose options stand in `run_scripts/NAME.py`.

A command imports what it works with only when it starts to: `--help` and a mistake in the options then wait for
neither torch nor transformers.
"""
