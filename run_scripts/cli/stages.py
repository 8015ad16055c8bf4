"""Stages of a command that is a chain of others: each in a process of its own, so that its memory ends with it."""

import multiprocessing
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from m3se.run_scripts.cli.app import prepare_libraries, run, run_explained


# Imports take ten seconds. A fork has them already; it needs a parent that has not computed yet.
PROCESSES = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def run_command(script: ModuleType, options: list[str]) -> None:
    """Run a command with these options on its command line; its failure, already explained, ends this process too."""
    finish(PROCESSES.Process(target=command_process, args=(script.__name__, options)))


def run_function(function: Callable, *arguments) -> None:
    """Run a function of a module, as `run_command` runs a command. It writes files: its value is lost."""
    finish(PROCESSES.Process(target=function_process, args=(function.__module__, function.__qualname__, arguments)))


def finish(process: multiprocessing.Process) -> None:
    """Start a process and wait for its end; end this process with its status when it failed."""
    process.start()
    try:
        process.join()
    finally:
        process.terminate()  # when this one is stopped
    if process.exitcode:
        sys.exit(process.exitcode)


def command_process(name: str, options: list[str]) -> None:
    """Run a command, named by its module."""
    script = import_module(name)
    sys.argv = [script.__file__, *options]
    run(script.make_parser, script.main)


def function_process(module: str, name: str, arguments: tuple) -> None:
    """Call a function, named by its module, and explain what the user can mend as every command does."""
    function = getattr(import_module(module), name)

    def work() -> None:
        """Call the function with the libraries as a command has them."""
        prepare_libraries()
        function(*arguments)

    run_explained(work)
