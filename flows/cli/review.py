"""`holter review`: the page where a person looks at records and decides about passages."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from flows.cli.analyse import release_of
from flows.cli.answer import Form, Format, answer
from flows.cli.options import number
from flows.reports.shown import say
from storage.files import check_home

if TYPE_CHECKING:
    from flows.cli.answer.server_kinds import ReviewPage
    from tasks.analysis.analyse import Release


def review(
    dataset: Annotated[
        str | None, typer.Argument(help="Data set whose queue to begin with; else the overview.")
    ] = None,
    port: Annotated[
        int | None, number("port", "Port of the page; else that of the last start.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Whose answers are shown, as in `holter analyse`; where a second one differs "
            "is in the queue."
        ),
    ] = None,
    add: Annotated[
        str | None, typer.Option(help="Let a person in, or change their role; prints their key.")
    ] = None,
    role: Annotated[
        str, typer.Option(help="Of --add: reader looks, reviewer decides too.")
    ] = "reviewer",
    output: Format = "text",
) -> None:
    """Look at records, and correct their labels, in a browser: a page on loopback."""
    from flows.cli.answer.server_kinds import ReviewPage
    from flows.review.people import add_person, ensure_owner, people_path

    check_home()
    if add is not None:
        key = add_person(add, role)
        value = ReviewPage("", False, add, role, str(people_path()))
        answer(value, output, lambda: say(f"{add}, {role}: {key}"))
        return
    path = f"/queue/{quote(dataset)}" if dataset else "/"
    name, _ = ensure_owner()
    address = _running_page() if port is None and not model else ""
    if dataset:
        _check_dataset(dataset)
    if address:
        _tell(ReviewPage(f"{address}{path}", False, name, "reviewer", str(people_path())), output)
        return
    with ExitStack() as stack:
        releases = [stack.enter_context(release_of(one)) for one in model or ()]
        _serve([one for one in releases if one], port, path, name, output)


def _check_dataset(dataset: str) -> None:
    """Refuse a data set that has no tables, before anything is started."""
    from flows.review.library import Library

    Library().shelf(dataset)


def _running_page() -> str:
    """The page that `holter up` keeps, if it answers."""
    from flows.services.up_state import answers, running

    up = running()
    return up.review if up and up.review and answers(f"{up.review}/health") else ""


def _serve(releases: list[Release], port: int | None, path: str, name: str, output: Form) -> None:
    """Serve the page from this process until Ctrl-C."""
    import uvicorn

    from flows.cli.answer.server_kinds import ReviewPage
    from flows.review.people import people_path
    from flows.review.server import make_app
    from flows.review.start import REVIEW
    from flows.services import ports
    from storage.files import home

    folder = home()
    if port is not None:
        reservation = ports.reserve_exactly("the page", port)
    else:
        usual = ports.known_port(folder, REVIEW.name, REVIEW.port)
        reservation = ports.reserve(usual) or ports.reserve_near(usual)
    with reservation:
        number = int(reservation.getsockname()[1])
        ports.remember_port(folder, REVIEW.name, number)
        address = f"http://{ports.LOOPBACK}:{number}{path}"
        _tell(ReviewPage(address, True, name, "reviewer", str(people_path())), output)
        config = uvicorn.Config(make_app(releases), log_level="warning")
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[reservation])


def _tell(value: ReviewPage, output: Form) -> None:
    """Say where the page is, and what it asks for."""

    def show() -> None:
        say(value.address)
        name = value.person or "NAME"
        say(f"  It asks for a name and a key, once: {name}, of {value.people_file}")
        if value.started:
            say("  Ctrl-C ends it.")

    answer(value, output, show)
