"""The connection to a Milvus database: a file of this machine by the same client as a server.

A URI that ends in `.db` is opened in this process by milvus-lite, without a server. Any other one is the address of a
Milvus server or cluster, whose token is read from an environment variable, so that no command line shows it.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from m3se.trainers.errors import InputError, first_line


if TYPE_CHECKING:
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

TOKEN = "M3SE_STORE_TOKEN"
SUFFIX = ".db"
ADDRESS = "http://HOST:19530"
CONNECTION_SECONDS = 10


def is_file(uri: str) -> bool:
    """Tell whether a URI names a database of this machine."""
    return "://" not in uri


def check_store(uri: str) -> None:
    """Raise InputError when the database's client is not installed, or the URI is none."""
    if is_file(uri) and not uri.endswith(SUFFIX):
        raise InputError(f"--store: expected a file NAME{SUFFIX} or an address such as {ADDRESS}, got {uri!r}")
    clients = ("pymilvus", "milvus_lite") if is_file(uri) else ("pymilvus",)
    for client in clients:
        if find_spec(client) is None:
            raise InputError(f"--store needs {client}: pip install 'm3se[store]'")


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Raise InputError, in one line that names the database, for whatever it refuses in the block."""
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except MilvusException as error:
        raise InputError(f"{uri}: the database refuses: {first_line(error.message)}") from error


@contextmanager
def connect(uri: str, create: bool = False) -> Iterator["MilvusClient"]:
    """Yield a client of the database, which is closed after the block.

    Args:
        uri: a file that ends in `.db`, or the address of a server.
        create: make the file if it is not there.

    Raises:
        InputError: there is no such file, another process has it open, or the server cannot be reached.
    """
    check_store(uri)
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    for chatty in ("pymilvus", "milvus_lite", "grpc"):  # pymilvus sets its own level when it is imported
        logging.getLogger(chatty).setLevel(logging.CRITICAL)  # they log every refusal with a traceback
    if is_file(uri):
        if not create and not Path(uri).exists():
            raise InputError(f"{uri}: no such database; index.py makes it")
        Path(uri).absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        client = MilvusClient(uri, token=os.environ.get(TOKEN, ""), timeout=CONNECTION_SECONDS)
    except MilvusException as error:
        raise InputError(f"{uri}: {cannot_connect(uri, error)}") from error
    try:
        yield client
    finally:
        client.close()
        if is_file(uri):
            release_file(uri)


def cannot_connect(uri: str, error: "MilvusException") -> str:
    """Say why there is no connection."""
    if is_file(uri):
        return "cannot be opened: another process has it open, or it is no database"
    return f"no connection ({first_line(error.message)}); is it running, and is {TOKEN} its token?"


def release_file(uri: str) -> None:
    """Let other processes open a database file: its server in this process goes on after its last client."""
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(uri)
