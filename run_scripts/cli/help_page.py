"""What --help prints: the script's text as it was written, its own options, and of Trainer's the usual ones."""

import argparse
from copy import copy
from dataclasses import fields

from transformers import HfArgumentParser


ALL = "--help_all"
# Of the hundred options of Trainer, those that are often set. The others are shown with `ALL`.
USUAL = {
    "output_dir",
    "learning_rate",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "optim",
    "warmup_steps",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "weight_decay",
    "seed",
    "eval_strategy",
    "eval_steps",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "load_best_model_at_end",
    "metric_for_best_model",
    "logging_steps",
    "report_to",
    "push_to_hub",
    "hub_model_id",
    "use_cpu",
    "ddp_backend",
}
MANY = 10  # values an option can have, too many to list in its first line


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


def shape_help(parser: HfArgumentParser, everything: bool = False) -> None:
    """Make --help short enough to read: a line of usage, Trainer's options last, the unusual ones only if asked."""
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
        if not everything and len(action.choices or ()) > MANY:
            action.metavar = action.dest.upper()
        negation = isinstance(action, argparse._StoreFalseAction)  # --no_tied is --tied false
        if negation or (not everything and action.dest in inherited - USUAL):
            action.help = argparse.SUPPRESS


def inherited_options(parser: HfArgumentParser) -> set[str]:
    """Return the names of Trainer's own options, empty for a command that does not train.

    `TrainingArguments` is looked for by name, as importing it for every command would take seconds.
    """
    for kind in parser.dataclass_types:
        for base in kind.__mro__:
            if base.__name__ == "TrainingArguments":
                return {field.name for field in fields(base)}
    return set()
