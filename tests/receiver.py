"""A receiver of lineage events on loopback that takes none that is not as OpenLineage's rules say.

No package ships the JSON schema of events: the core's rules are written here from the
specification (2-0-2), and each standard facet is held by the client's own class of it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attr
from jsonschema import Draft202012Validator
from openlineage.client import facet_v2

from tests import ROOT

TEXT = {"type": "string", "minLength": 1}
FACETS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "required": ["_producer", "_schemaURL"],
        "properties": {
            "_producer": {"type": "string", "pattern": "^(urn|https):"},
            "_schemaURL": {"type": "string", "pattern": "^(urn|https):.*#/[$]defs/"},
        },
    },
}


def data(kind: str) -> dict[str, Any]:
    return {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["namespace", "name"],
            "additionalProperties": False,
            "properties": {"namespace": TEXT, "name": TEXT, "facets": FACETS, kind: FACETS},
        },
    }


EVENT = {
    "type": "object",
    "required": ["eventTime", "producer", "schemaURL", "run", "job"],
    "additionalProperties": False,
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$"},
        "producer": {"type": "string", "pattern": "^(urn|https):"},
        "schemaURL": {"type": "string", "pattern": "^https:.*/RunEvent$"},
        "run": {
            "type": "object",
            "required": ["runId"],
            "properties": {"runId": {"pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}},
        },
        "job": {
            "type": "object",
            "required": ["namespace", "name"],
            "properties": {"namespace": TEXT, "name": TEXT, "facets": FACETS},
        },
        "inputs": data("inputFacets"),
        "outputs": data("outputFacets"),
    },
}
OURS = json.loads((ROOT / "docs" / "openlineage.schema.json").read_text())


def standard() -> dict[str, Any]:
    """The client's classes of facets, by the addresses of their schemas."""
    kinds = {}
    for module in (m for m in vars(facet_v2).values() if hasattr(m, "__dict__")):
        for kind in vars(module).values():
            if isinstance(kind, type) and attr.has(kind) and hasattr(kind, "_get_schema"):
                kinds[kind._get_schema()] = kind
    return kinds


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def faults_of(text: str) -> list[str]:
    """What is wrong with an event."""
    try:
        event = json.loads(text, parse_constant=refuse_constant)
    except ValueError as error:
        return [str(error)]
    wrong = [error.message for error in Draft202012Validator(EVENT).iter_errors(event)]
    kinds = standard()
    holders = [event["run"], event["job"], *event.get("inputs", ()), *event.get("outputs", ())]
    for holder in holders:
        for group in ("facets", "inputFacets", "outputFacets"):
            for name, facet in holder.get(group, {}).items():
                wrong += facet_faults(name, facet, kinds)
    return wrong


def facet_faults(name: str, facet: dict[str, Any], kinds: dict[str, Any]) -> list[str]:
    """What is wrong with a facet, by our published schema, or by the client's own class."""
    address, pointer = facet["_schemaURL"].split("#")
    if address == OURS["$id"]:
        schema = {**OURS["$defs"][pointer.rpartition("/")[2]], "$defs": OURS["$defs"]}
        faults = [error.message for error in Draft202012Validator(schema).iter_errors(facet)]
        return faults if name.startswith("holter_") else [*faults, f"{name}: no prefix of ours"]
    if facet["_schemaURL"] not in kinds:
        return [f"{name}: no standard facet at {facet['_schemaURL']}"]
    fields = {f.alias: f for f in attr.fields(kinds[facet["_schemaURL"]])}
    given = {key for key in facet if not key.startswith("_")}
    needed = {key for key, f in fields.items() if f.init and f.default is attr.NOTHING}
    return [f"{name}: {key} is missing" for key in needed - given] + [
        f"{name}: {key} is unknown" for key in given - fields.keys()
    ]


@dataclass
class Receiver:
    """What has come, in order, and what was refused and why."""

    url: str
    events: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def of(self, job: str) -> list[dict[str, Any]]:
        """The events of a job."""
        return [event for event in self.events if event["job"]["name"] == job]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that runs while the block does."""

    class Lineage(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            faults = faults_of(text) if self.path == "/api/v1/lineage" else [self.path]
            receiver.refused += [f"{fault} in {text[:2000]}" for fault in faults]
            if not faults:
                receiver.events.append(json.loads(text))
            self.send_response(400 if faults else 201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Lineage) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield receiver
        server.shutdown()
        thread.join()
