"""The review page's server: for loopback, behind names and keys, with nothing from elsewhere.

`uvicorn --factory flows.review.server:app` starts it. A request that names another host, or comes
from another page, is refused (`flows.services.prefect_server.guard`), and so is one without name
and key. What is written is checked here, whatever the page did.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.review import answers, pages
from flows.review.library import Library
from flows.review.people import REVIEWER, Person, person_of, read_people
from flows.review.writing import MOST_BODY, save
from flows.services.prefect_server import LOCAL_NAMES, guard, other_names
from storage.errors import HolterError, PlaceError, RecordError, TableError
from storage.json_text import as_json
from tasks.analysis.analyse import Release

SCRIPTS = Path(__file__).parent / "page"
#: A page runs its own scripts, and asks its own server; nothing may hold it in a frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: Seconds that a thread computes while another one waits.
SWITCH_S = 0.0005
#: Seconds before a wrong key is answered.
PAUSE_S = 0.5
#: What can be asked without a key: whether the server is there.
HEALTH = "/health"
Answer = Callable[[Library, Request], Any]
log = logging.getLogger(__name__)


def known_people(server: ASGIApp) -> ASGIApp:
    """The same server for people of the key file; the others are asked for name and key."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == HEALTH:
            await server(scope, receive, send)
            return
        try:
            people = read_people()
        except PlaceError as error:
            await PlainTextResponse(f"{error}\n", 500)(scope, receive, send)
            return
        header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        person = person_of(header, people) if header else None
        if person is None:
            if header:
                await asyncio.sleep(PAUSE_S)
            challenge = {"WWW-Authenticate": 'Basic realm="Holter AF review", charset="UTF-8"'}
            text = "Name and key, please: `holter review` says where they are.\n"
            await PlainTextResponse(text, 401, challenge)(scope, receive, send)
            return
        scope["person"] = person
        await server(scope, receive, send)

    return answer


def with_headers(server: ASGIApp) -> ASGIApp:
    """The same server; every answer forbids what a page of it does not need."""
    extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        await server(scope, receive, told)

    return answer


def json_answer(value: object, status: int = 200) -> Response:
    """An answer for the page's scripts."""
    return Response(as_json(value, None), status, media_type="application/json")


def question(answer: Answer) -> Callable[[Request], Response]:
    """An endpoint that reads; what is not there, or asked wrongly, is told in one sentence."""

    def endpoint(request: Request) -> Response:
        try:
            return json_answer(answer(request.app.state.library, request))
        except (TableError, RecordError) as error:
            return json_answer({"error": str(error)}, 404)
        except (HolterError, ValueError) as error:
            return json_answer({"error": str(error)}, 400)

    return endpoint


async def decide(request: Request) -> Response:
    """Keep a decision of a reviewer; "saved" is answered once it is on the disk."""
    person: Person = request.scope["person"]
    if person.role != REVIEWER:
        return json_answer({"error": f"{person.name} may look, and not decide"}, 403)
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return json_answer({"error": "expected application/json"}, 415)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY:
            return json_answer({"error": f"found over {MOST_BODY} bytes"}, 413)
    from starlette.concurrency import run_in_threadpool

    try:
        value = await run_in_threadpool(save, request.app.state.library, bytes(body), person.name)
    except (HolterError, ValueError) as error:
        return json_answer({"error": str(error)}, 400)
    except OSError as error:
        log.exception("a decision could not be kept")
        return json_answer({"error": f"not saved: {error.strerror}"}, 507)
    return json_answer(value)


def page(draw: Callable[[Library, Request], str]) -> Callable[[Request], Response]:
    """An endpoint that gives a page."""

    def endpoint(request: Request) -> Response:
        try:
            text = draw(request.app.state.library, request)
        except (TableError, RecordError) as error:
            return Response(pages.fault_page(str(error)), 404, media_type="text/html")
        return Response(text, media_type="text/html")

    return endpoint


def health(_: Request) -> Response:
    """That the server is there."""
    return PlainTextResponse("OK\n")


async def plainly(_: Request, error: Exception) -> Response:
    """A refusal in words."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    return Response(pages.fault_page("There is no such page."), status, media_type="text/html")


def make_app(releases: Sequence[Release] = ()) -> Starlette:
    """The server.

    Parameters
    ----------
    releases : sequence of Release
        Whose answers are shown; the usual one of the box where there is none.
    """
    library = Library(releases)

    @asynccontextmanager
    async def lifespan(server: Starlette) -> AsyncIterator[None]:
        server.state.library = library
        # Else what is read in short blocks waits 5 ms for each while another thread computes.
        usual_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        yield
        sys.setswitchinterval(usual_s)
        library.close()

    middleware = [
        Middleware(_wrapped(guard), names=(*LOCAL_NAMES, *other_names())),
        Middleware(_wrapped(with_headers)),
        Middleware(_wrapped(known_people)),
    ]
    return Starlette(
        routes=[
            Route("/", page(pages.overview_page)),
            Route("/queue/{dataset}", page(pages.queue_page)),
            Route("/record/{dataset}/{record:path}", page(pages.record_page)),
            Route("/data/record", question(answers.record)),
            Route("/data/day", question(answers.day)),
            Route("/data/ecg", question(answers.ecg)),
            Route("/data/beats", question(answers.beats)),
            Route("/data/decisions", question(answers.decisions)),
            Route("/data/queue", question(answers.queue)),
            Route("/decisions", decide, methods=["POST"]),
            Route(HEALTH, health),
            Route("/house.css", pages.house_style),
            Mount("/page", StaticFiles(directory=SCRIPTS)),
        ],
        middleware=middleware,
        exception_handlers={404: plainly},
        lifespan=lifespan,
    )


def _wrapped(wrap: Callable[..., ASGIApp]) -> Any:
    """A wrapper of servers as Starlette's middleware asks for one."""

    def make(app: ASGIApp, **options: Any) -> ASGIApp:
        return wrap(app, **options)

    return make


def app() -> Starlette:
    """The server of `holter up`, with the usual release of the box."""
    return make_app()
