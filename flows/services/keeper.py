"""Keep a server only while the command that started it lives, however that command ends.

Run as a script, with nothing but the standard library: `python -I -S keeper.py COMMAND...`. Its
standard input is a pipe that its parent holds open and never writes to; when the parent is gone,
by SIGKILL too, the pipe ends, and everything in the keeper's process group is ended.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys

PATIENCE_S = 10.0


def keep(words: list[str]) -> int:
    """Run a command in this process group until it ends or the parent does; gives its exit code.

    SIGTERM and SIGINT come to the whole group: the command decides when it has ended.
    """
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as server:  # noqa: S603 - our parent's
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, signal.SIG_IGN)
        with selectors.DefaultSelector() as selector:
            selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
            while server.poll() is None:
                if selector.select(timeout=0.5):
                    os.killpg(0, signal.SIGTERM)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        server.wait(PATIENCE_S)
                    os.killpg(0, signal.SIGKILL)  # what the server started, and this process too
        return server.returncode


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
