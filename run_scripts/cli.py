"""The front of every script: recipe → flags → dataclasses → main, and one clear line for what cannot be used."""

import logging
import sys
from collections.abc import Callable

from transformers import HfArgumentParser
from transformers.utils import logging as transformers_logging

from run_scripts.recipe import expand_recipe
from trainers.errors import InputError


def run(make_parser: Callable[[], HfArgumentParser], main: Callable) -> None:
    """Parse the command line and call `main` with the parsed dataclasses.

    What the user can mend (InputError, an unknown option, a value of the wrong type) ends the program with one line
    on stderr and status 2, Ctrl-C with status 130.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    transformers_logging.set_verbosity_error()  # a truncated encoder reports every weight that it leaves out
    transformers_logging.disable_progress_bar()
    try:
        main(*parse(make_parser(), sys.argv[1:]))
    except InputError as error:
        print(f"{sys.argv[0]}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


def parse(parser: HfArgumentParser, argv: list[str]) -> tuple:
    """Arguments, `--recipe FILE` first if there is one, as the parser's dataclasses.

    Raises:
        InputError: a recipe that cannot be read, or an option that does not exist (argparse itself exits with
            status 2 on a value of the wrong type).
    """
    argv_expanded = expand_recipe(argv)
    try:
        *arguments, unknown = parser.parse_args_into_dataclasses(argv_expanded, return_remaining_strings=True)
    except ValueError as error:  # TrainingArguments checks its options against each other
        raise InputError(" ".join(str(error).split())) from None
    if unknown:
        source = f"{argv[1]}: " if argv[:1] == ["--recipe"] else ""
        raise InputError(f"{source}unknown option {unknown[0]} (--help lists those there are)")
    return tuple(arguments)
