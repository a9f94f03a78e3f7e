"""Prefect's server behind a check of whom a request names and whose page sent it.

`uvicorn --factory flows.services.prefect_server:app` starts it. Prefect itself answers to every
`Host`. So a web page whose name is made to lead to 127.0.0.1 (DNS rebinding), or one that posts
across sites, would reach an API that has commands run. MLflow's server makes the same check by
itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: The names of this machine's loopback; HOLTER_HOSTS adds others, with commas between them.
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")


def admits(headers: Sequence[tuple[bytes, bytes]], names: Sequence[str]) -> bool:
    """Whether a request is to one of our names, and from no page but the server's own.

    Parameters
    ----------
    headers : sequence of (bytes, bytes)
        Names in lower case, and values, as ASGI has them.
    names : sequence of str
        Host names that the server answers to, in lower case, without a port.

    Notes
    -----
    A browser tells both: `Host` (RFC 9110, 7.2) is the name in its address bar, and `Origin`
    (RFC 6454) the page that sends; a page without an address has the origin `null`.
    """
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
    if len(hosts) != 1:
        return False
    try:
        hostname = urlsplit(f"//{hosts[0]}").hostname
    except ValueError:  # a bracket that is not closed
        return False
    return hostname in names and all(
        origin in (f"http://{hosts[0]}", f"https://{hosts[0]}") for origin in origins
    )


def guard(server: ASGIApp, names: Sequence[str]) -> ASGIApp:
    """The same server; requests and WebSockets that `admits` refuses are answered 403."""
    refusal = PlainTextResponse("Refused: another Host, or a page of another Origin.\n", 403)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        is_request = scope["type"] in ("http", "websocket")
        await (refusal if is_request and not admits(scope["headers"], names) else server)(
            scope, receive, send
        )

    return answer


def other_names() -> list[str]:
    """The names that HOLTER_HOSTS adds to this machine's own."""
    names = os.environ.get("HOLTER_HOSTS", "").lower().split(",")
    return [name.strip() for name in names if name.strip()]


def app() -> ASGIApp:
    """Prefect's server for loopback: its API, page and services."""
    from prefect.server.api.server import create_app

    return guard(create_app(final=True), (*LOCAL_NAMES, *other_names()))
