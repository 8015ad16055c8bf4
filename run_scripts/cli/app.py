"""The front of every script: recipe → flags → dataclasses → main, and one clear line for what cannot be used."""

import errno
import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from safetensors import SafetensorError

from m3se.run_scripts.cli.help_page import shape_help
from m3se.run_scripts.cli.output import end_with_reader
from m3se.run_scripts.cli.parser import HfArgumentParser
from m3se.run_scripts.cli.recipe import expand_recipe, join_repeated
from m3se.run_scripts.cli.signals import HOW_TO_GO_ON, Stopped, handle_stop_signals, say
from m3se.run_scripts.cli.threads import use_all_cores
from m3se.trainers.errors import InputError


SCRIPTS = Path(__file__).resolve().parents[1]
DISK_REFUSES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
DISK_REFUSES |= {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}  # a file where a folder is needed
# What numpy, PyTorch and safetensors say of a disk that is full.
NOT_WRITTEN = ("items requested but only", "requested and", "PytorchStreamWriter failed", "os error 28", "os error 27")
# What gloo and NCCL say when the process at the other end of a connection has ended.
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")


def run(
    make_parser: Callable[[], HfArgumentParser], main: Callable, shortcut: Callable[..., bool] | None = None
) -> None:
    """Parse the command line and call `main` with the parsed dataclasses, as `run_explained` runs it.

    `shortcut` is called first, before transformers is loaded. Where it returns true, the work is done.
    """

    def work() -> None:
        """Read the command line and do what it says."""
        parser = make_parser()
        shape_help(parser)
        arguments = parse(parser, sys.argv[1:])
        if shortcut is not None and shortcut(*arguments):
            return
        prepare_libraries()
        main(*arguments)

    run_explained(work)


def run_explained(work: Callable[[], None]) -> None:
    """Do the work of a process, with logging and an end that users understand.

    A mistake of the user (InputError, an unknown option, a value of the wrong type) ends the program with one line
    on stderr and status 2; so does a process of the same launch that has ended, and a training that diverged. Ctrl-C
    and SIGTERM end it with status 130 and 143.
    """
    forget_scripts_folder()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "httpx2", "faiss.loader"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        with handle_stop_signals(), end_with_reader():
            work()
    except KeyboardInterrupt as stopped:
        say(HOW_TO_GO_ON)
        sys.exit(stopped.status if isinstance(stopped, Stopped) else 130)
    except (InputError, FloatingPointError) as error:
        fail(str(error))
    except (OSError, RuntimeError, SafetensorError) as error:
        if reason := outside_reason(error):
            fail(reason)
        raise


def load_work(command: str) -> ModuleType:
    """Import the module of `run_scripts/work` that does a command's work: that takes seconds, which --help saves."""
    return import_module(f"m3se.run_scripts.work.{command}")


def prepare_libraries() -> None:
    """Let the libraries that do the work use all cores, and say no more than this project does."""
    use_all_cores()
    from transformers.utils import logging as transformers_logging  # takes seconds, which --help does not need

    transformers_logging.set_verbosity_error()  # a truncated encoder reports every weight that it leaves out
    transformers_logging.disable_progress_bar()


def forget_scripts_folder() -> None:
    """Take the folder of the scripts off sys.path.

    Python puts it first for a script that is started by its path. Its evaluate.py would then hide the library
    `evaluate`.
    """
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != SCRIPTS]


def fail(reason: str) -> NoReturn:
    """End the program with one line."""
    print(f"{sys.argv[0]}: error: {' '.join(reason.split())}", file=sys.stderr)
    sys.exit(2)


def outside_reason(error: Exception) -> str | None:
    """Describe what the world did to us: a disk that refuses, a process that is gone. Return None for our mistakes."""
    if isinstance(error, OSError) and error.errno in DISK_REFUSES:
        return f"{error.filename or 'the disk'}: {error.strerror}; when that is mended, run the same again to go on"
    if any(part in str(error) for part in NOT_WRITTEN):
        return f"a file could not be written: {error}; when that is mended, run the same again to go on"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and any(part in str(error) for part in LOST):
        return "another process of this launch ended early; run the same again to go on"
    if isinstance(error, OSError) and error.errno is None:  # transformers' own: no such model, or not its files
        return str(error)
    return None


def parse(parser: HfArgumentParser, argv: list[str]) -> tuple:
    """Arguments, `--recipe FILE` first if there is one, as the parser's dataclasses.

    Raises:
        InputError: a recipe that cannot be read, or an option that does not exist (argparse itself exits with
            status 2 on a value of the wrong type).
    """
    lists = {name for action in parser._actions if action.nargs in ("*", "+") for name in action.option_strings}
    argv_expanded = expand_recipe(join_repeated(argv, lists))
    try:
        *arguments, unknown = parser.parse_args_into_dataclasses(argv_expanded, return_remaining_strings=True)
    except ValueError as error:  # TrainingArguments checks its options against each other
        raise InputError(" ".join(str(error).split())) from None
    if unknown:
        source = f"{argv[1]}: " if argv[:1] == ["--recipe"] else ""
        raise InputError(f"{source}unknown option {unknown[0]} (--help lists those there are)")
    return tuple(arguments)
