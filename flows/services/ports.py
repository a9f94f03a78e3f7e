"""Ports of the local servers: kept until a server listens there, and the same at the next start."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from storage.bounds import within
from storage.errors import ServerError
from storage.files import home, read_json, write_json

LOOPBACK = "127.0.0.1"
#: Of a server's environment: the state folder whose server it is.
SERVES = "HOLTER_SERVES"
#: How many ports after one that is taken are tried before any that is free.
NEAR = 100
#: The review page's name among the ports, and the port of its first start.
REVIEW, REVIEW_PORT = "Review", 5100
#: What a server writes to its log that found its port taken, whatever server it is.
IN_USE = os.strerror(errno.EADDRINUSE).lower()


@dataclass(frozen=True)
class Holder:
    """Who listens on a port, in words, and whether it is a server of the same state folder."""

    words: str
    same_folder: bool = False


def reserve(port: int) -> socket.socket | None:
    """A port bound, on which nothing listens; None where another holds it (0: any that is free).

    Until it is closed the system gives the port to nobody who asks for any, and to no connection. A
    server that asks for this port, as all do that allow a quick start again (SO_REUSEADDR), may
    listen on it meanwhile (Linux, ip(7) and socket(7)).
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reservation.bind((LOOPBACK, port))
    except OSError:
        reservation.close()
        return None
    return reservation


def is_free(port: int) -> bool:
    """Whether nobody listens on a port."""
    reservation = reserve(port)
    if reservation is not None:
        reservation.close()
    return reservation is not None


def reserve_near(port: int) -> socket.socket:
    """The first port after one that is free, or any that is; 0 for any.

    Raises
    ------
    ServerError
        The system has none.
    """
    near = range(port + 1, min(port + NEAR, 65535)) if port else ()
    for number in (*near, 0):
        if reservation := reserve(number):
            return reservation
    raise ServerError(f"found no free port at {LOOPBACK}; expected one")


def reserve_exactly(name: str, port: int) -> socket.socket:
    """The port that a server was asked to have.

    Raises
    ------
    ServerError
        Another process holds it.
    """
    if reservation := reserve(port):
        return reservation
    raise ServerError(
        f"port {port} for {name}: found {holder(port).words} on it; expected a free port: "
        f"choose another with --{name.lower()}-port"
    )


def holder(port: int, folder: Path | None = None) -> Holder:
    """Who listens on a port, as far as this user may see.

    Parameters
    ----------
    port : int
        The port, on loopback or on every address.
    folder : Path, optional
        The state folder whose servers are ours.
    """
    pids: list[int] = []
    with suppress(psutil.Error):
        pids = [c.pid for c in psutil.net_connections("tcp") if c.pid and _listens_on(c, port)]
    if not pids:
        return Holder("a process that this user may not see")
    with suppress(psutil.Error):
        process = psutil.Process(pids[0])
        words = f"process {pids[0]} ({_command(process.cmdline())}, {process.username()})"
        return Holder(words, folder is not None and _serves(process, folder))
    return Holder(f"process {pids[0]}")


def _listens_on(connection: Any, port: int) -> bool:
    """Whether a connection is one that others make to a port of loopback, or of every address."""
    if connection.status != psutil.CONN_LISTEN or connection.laddr.port != port:
        return False
    address = ip_address(connection.laddr.ip)
    return address.is_loopback or address.is_unspecified


def _command(words: list[str]) -> str:
    """A process's program, and the module that Python runs; no more, which may hold a password."""
    program = Path(words[0]).name if words else "no command"
    if "-m" in words[:-1]:
        program += f" -m {words[words.index('-m') + 1]}"
    return "".join(character for character in program if character.isprintable())[:60]


def _serves(process: psutil.Process, folder: Path) -> bool:
    """Whether a process was started as a server of a state folder."""
    return bool(process.environ().get(SERVES) == str(folder))


def known_port(folder: Path, name: str, usual: int) -> int:
    """The port of a server's last start from a state folder, or its usual one."""
    return _ports(folder).get(name, usual)


def remember_port(folder: Path, name: str, port: int) -> None:
    """Have the next start from a state folder take the same port."""
    ports = _ports(folder)
    if ports.get(name) != port:
        write_json(folder / "ports.json", {**ports, name: port})


def _ports(folder: Path) -> dict[str, int]:
    """The ports that are remembered; what is no port is none."""
    try:
        content: Any = read_json(folder / "ports.json")
        return {
            str(name): int(within("port", port))
            for name, port in content.items()
            if isinstance(port, int)
        }
    except (OSError, ValueError, AttributeError):
        return {}


def review_page(dataset: str, record: str = "", **place: float) -> str:
    """Where the review page of this state folder shows a record, or a data set's queue.

    It is the port of the page's last start, or of its first. The page resolves `place`: `at`, a
    time in seconds, or `sample`.
    """
    port = known_port(home(), REVIEW, REVIEW_PORT)
    path = f"record/{quote(dataset)}/{quote(record)}" if record else f"queue/{quote(dataset)}"
    numbers = "&".join(f"{name}={value:.10g}" for name, value in place.items())
    return f"http://{LOOPBACK}:{port}/{path}" + (f"?{numbers}" if numbers else "")
