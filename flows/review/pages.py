"""The pages of the review server, from its templates: every text in them is shown as text."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from flows.review.library import Library
from flows.review.overview import overview
from tasks.pages.colours import stylesheet

#: The buttons below the ECG: what each does (`DEEDS` of record.js), its key, and its words.
TOOLS = (
    ("left", "←", "◀"),
    ("right", "→", "▶"),
    ("in", "↑", "Closer"),
    ("out", "↓", "Farther"),
    ("paper", "1", "25 mm/s"),
    ("whole", "0", "Whole"),
    ("episode", "e", "Episode"),
    ("difference", "d", "Disagreement"),
    ("next", "j", "Next case"),
    ("select", "s", "Select"),
    ("measure", "x", "Calipers"),
    ("lead", "l", "Lead"),
    ("near", "z", "Day closer"),
    ("far", "Z", "Whole day"),
)
VERDICTS = (
    ("accept", "a", "It is AF"),
    ("reject", "r", "Not AF"),
    ("correct", "c", "These limits"),
    ("flutter", "f", "Flutter"),
    ("untold", "u", "Cannot tell"),
)
KEYS = (
    ("← →", "scroll; with Shift, a little"),
    ("↑ ↓", "closer, farther"),
    ("1 0", "25 mm/s, the whole record"),
    ("e E", "next, previous episode"),
    ("d D", "next, previous disagreement"),
    ("j k", "next, previous case of the queue"),
    ("[ ]", "the passage begins, ends at the dashed line"),
    ("a r c f u", "AF, not AF, these limits, flutter, cannot tell"),
    ("m, Esc", "write a remark, leave it"),
    ("s x l", "select by dragging, calipers, leads"),
    ("z Z", "the day around the passage, the whole day"),
)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )


def _drawn(template: str, request: Request, **values: Any) -> str:
    usual: dict[str, Any] = {"dataset": "", "record": "", "script": ""}
    person = request.scope["person"]
    return _environment().get_template(template).render(usual | values | {"person": person})


def fault_page(text: str) -> str:
    """A page that says why there is no other."""
    return _environment().get_template("fault.html.j2").render(text=text)


def house_style(_: Request) -> Response:
    """The colours and type of every page of this project."""
    return Response(stylesheet(), media_type="text/css")


def overview_page(library: Library, request: Request) -> str:
    """What there is, and what needs a person first."""
    return _drawn(
        "overview.html.j2", request, kind="overview", title="Holter AF review", **overview(library)
    )


def queue_page(library: Library, request: Request) -> str:
    """A data set's queue, and its records; TableError where there is no such data set."""
    shelf = library.shelf(request.path_params["dataset"])
    return _drawn(
        "queue.html.j2",
        request,
        kind="queue",
        title=f"{shelf.name}: queue",
        script="queue.js",
        dataset=shelf.name,
        data_title=shelf.manifest.title,
        records=[
            (entry.record, round(100 * entry.af_beats / entry.beats) if entry.beats else 0)
            for entry in shelf.manifest.entries
        ],
    )


def record_page(library: Library, request: Request) -> str:
    """A record; TableError or RecordError where there is none."""
    names = request.path_params
    shelf, entry = library.entry(names["dataset"], names["record"])
    library.prepare(shelf.name, entry.record)
    return _drawn(
        "record.html.j2",
        request,
        kind="record",
        title=f"{entry.record}: {shelf.name}",
        script="record.js",
        dataset=shelf.name,
        record=entry.record,
        subject=entry.subject,
        data_title=shelf.manifest.title,
        simulated=shelf.manifest.simulated,
        tools=TOOLS,
        verdicts=VERDICTS,
        keys=KEYS,
    )
