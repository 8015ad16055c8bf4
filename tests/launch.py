"""Two processes of one launch, as torchrun starts them, but forked from this one: nothing is imported anew."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context


PATIENCE = 900.0  # seconds; on a busy machine a few take minutes


def launch(function: Callable, *arguments) -> None:
    """Call the function in both processes; raise AssertionError unless both end well."""
    with environments() as ranks:
        processes = [
            get_context("fork").Process(target=rank_process, args=(rank, function, arguments), daemon=True)
            for rank in ranks
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
        codes = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
    assert codes == [0, 0], f"exit codes of the two processes: {codes}"


@contextmanager
def environments() -> Iterator[list[dict[str, str]]]:
    """Give the environment variables of two ranks. Their port is held meanwhile, so that no other test gets it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # torch may still listen there
        held.bind(("127.0.0.1", 0))
        launch = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        launch |= {"MASTER_PORT": str(held.getsockname()[1])}
        yield [launch | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]


def rank_process(rank: dict[str, str], function: Callable, arguments: tuple) -> None:
    """Call the function as one of the ranks."""
    os.environ |= rank
    function(*arguments)
