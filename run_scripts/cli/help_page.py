"""The page of --help: the script's text as it was written, its own options, and of Trainer's the usual ones."""

import argparse
from copy import copy
from dataclasses import fields

from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.run_scripts.cli.training_options import UsualOptions


ALL = "--help_all"


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """A formatter that keeps the description's lines, and names a default where there is one, and an option once."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.required and action.option_strings:
            return f"{action.help} (required)"
        nameless = action.default is None or action.default in ("", [], {}, argparse.SUPPRESS)
        return action.help if nameless or "default" in action.help else f"{action.help} (default: %(default)s)"

    def _format_action_invocation(self, action: argparse.Action) -> str:
        once = copy(action)  # HfArgumentParser knows --loss_args as --loss-args too
        once.option_strings = [name for name in action.option_strings if "-" not in name.lstrip("-")]
        return super()._format_action_invocation(once)


def shape_help(parser: HfArgumentParser) -> None:
    """Make --help short enough to read: a line of usage, required options first and Trainer's last."""
    parser.formatter_class = HelpFormatter
    positional = "".join(f" {action.dest} ..." for action in parser._actions if not action.option_strings)
    parser.usage = f"%(prog)s [--recipe FILE] [--option value ...]{positional}"
    inherited = inherited_options(parser)
    if inherited:
        parser.add_argument(ALL, action="help", help="show also the less usual options of transformers' Trainer")
    for group in parser._action_groups:
        group._group_actions.sort(
            key=lambda action: (action.dest in inherited, action.dest != "help", not action.required)
        )
    for action in parser._actions:
        if action.nargs == "?" and action.const is True:
            action.metavar = "true|false"
        if isinstance(action, argparse._StoreFalseAction):  # --no_tied is --tied false
            action.help = argparse.SUPPRESS


def inherited_options(parser: HfArgumentParser) -> set[str]:
    """Return the names of Trainer's own options, empty for a command that does not train."""
    for kind in parser.dataclass_types:
        for base in kind.__mro__:
            if base is UsualOptions or base.__name__ == "TrainingArguments":  # importing that takes seconds
                return {field.name for field in fields(base)}
    return set()
