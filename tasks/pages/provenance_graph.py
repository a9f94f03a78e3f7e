"""A lineage as a graph in the terms of W3C PROV, and that as PROV-JSON and as Mermaid.

Sources: W3C PROV-DM (2013) for the relations; the PROV-JSON member submission (2013) for its form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from storage.audit.chain import SIDES
from storage.audit.ledger_entry import deed
from storage.audit.lineage import Lineage
from storage.registry.tags import TEACHER_RUN_TAG, TEACHER_SHA256_TAG, TEACHER_TAG
from tasks.pages.markup import label
from tasks.pages.numbers import phrase_of
from tasks.pages.simulations import simulations

#: The relations used: the names of their two ends, and whether the data goes from first to second.
RELATIONS = {
    "used": ("prov:activity", "prov:entity", False),
    "wasGeneratedBy": ("prov:entity", "prov:activity", False),
    "wasDerivedFrom": ("prov:generatedEntity", "prov:usedEntity", False),
    "wasAssociatedWith": ("prov:activity", "prov:agent", False),
    "hadMember": ("prov:collection", "prov:entity", True),
}
NAMESPACE = "urn:holter-af:"
#: How Mermaid draws each kind.
SHAPES = {"entity": ('["', '"]'), "activity": ('(["', '"])'), "agent": ('{{"', '"}}')}


@dataclass(frozen=True)
class Node:
    """An entity, activity or agent: its column in a picture, its lines of text, and facts of it."""

    id: str
    kind: str
    column: int
    lines: tuple[str, ...]
    facts: dict[str, str] = field(default_factory=dict)
    link: str = ""


@dataclass(frozen=True)
class Edge:
    """A relation of PROV between two nodes, in its order."""

    relation: str
    first: str
    second: str

    @property
    def flow(self) -> tuple[str, str]:
        """The two ends in the direction of the work."""
        forth = RELATIONS[self.relation][2]
        return (self.first, self.second) if forth else (self.second, self.first)


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of the work, and the relations between them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def graph(lineage: Lineage, *, detailed: bool) -> Graph:
    """A lineage: each record, table and file as a node where `detailed`; else a node a kind."""
    parts = list(_parts(lineage, detailed=detailed))
    nodes = {part.id: part for part in parts if isinstance(part, Node)}
    return Graph(tuple(nodes.values()), tuple(p for p in parts if isinstance(p, Edge)))


def _parts(lineage: Lineage, *, detailed: bool) -> Iterator[Node | Edge]:
    document = lineage.chain.document
    run, tags = document["run"], document["run"]["tags"]
    dirty = ", dirty" if tags.get("git.dirty") == "true" else ""
    commit = tags.get("git.commit", "unknown")
    page = f"{lineage.server}/#/experiments/{run['experiment_id']}/runs/{run['run_id']}"
    yield Node("code", "entity", 2, ("code", f"commit {commit[:10]}{dirty}"), _facts(tags, "git."))
    lock = tags.get("holter.environment_sha256", "")
    yield Node("environment", "entity", 2, ("environment", f"lock {lock[:10]}"), {"sha256": lock})
    split = document["split"]
    sides = [f"{len(split[side]['subjects'])} {side}" for side in SIDES]
    yield Node(
        "split",
        "entity",
        2,
        (f"{split.get('paradigm', '')} split", f"seed {split.get('seed')}", *sides),
        {"sha256": split["sha256"], "seed": str(split.get("seed"))},
    )
    simulated = [f"SIMULATED: {text}" for text in simulations(run["params"], document["datasets"])]
    user, training = tags.get("mlflow.user", "unknown"), f"run/{run['run_id']}"
    yield Node(
        training,
        "activity",
        3,
        ("training", run["name"], f"by {user}", f"run {run['run_id'][:10]}", *simulated),
        {
            **{f"param.{k}": v for k, v in run["params"].items()},
            **{f"metric.{k}": str(v["value"]) for k, v in run["metrics"].items()},
            **_facts(tags, "prefect."),
            "time": _time(run["start_time"]),
        },
        page,
    )
    for source in ("split", "code", "environment"):
        yield Edge("used", training, source)
    if teacher := tags.get(TEACHER_TAG):
        name, _, number = teacher.partition("/")
        digest = tags[TEACHER_SHA256_TAG]
        yield Node(
            "teacher",
            "entity",
            2,
            ("teacher", teacher, f"weights {digest[:10]}"),
            {"weights_sha256": digest, "run_id": tags[TEACHER_RUN_TAG]},
            f"{lineage.server}/#/models/{name}/versions/{number}",
        )
        yield Edge("used", training, "teacher")
    if detailed:  # a picture says it in the box
        yield Node(f"person/{user}", "agent", 6, (user,))
        yield Edge("wasAssociatedWith", training, f"person/{user}")
    for data in document["datasets"]:
        yield from _data(data, training, detailed=detailed)
    yield from _version(lineage, training, detailed=detailed)
    for entry in lineage.entries:
        yield from _entry(lineage, entry)


def _facts(tags: dict[str, str], start: str) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key.startswith(start) and value}


def _time(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc)
    return moment.isoformat(timespec="seconds")


def _data(data: dict[str, Any], training: str, *, detailed: bool) -> Iterator[Node | Edge]:
    name, count = data["dataset"], len(data["entries"])
    source, ingest, tables = f"dataset/{name}", f"ingest/{name}", f"tables/{name}"
    simulated = ("SIMULATED",) if data["simulated"] else ()
    size = f"{count} records, {sum(entry['hours'] for entry in data['entries']):.1f} h"
    yield Node(
        source,
        "entity",
        0,
        (
            f"{name} {data['version']}",
            data["licence"],
            size,
            *simulated,
        ),
        {key: data[key] for key in ("title", "version", "licence", "citation", "origin")},
    )
    config = f"preprocessing/{name}"
    annotators = data["spec"].get("annotations", {})
    yield Node(
        config,
        "entity",
        0,
        ("preprocessing", f"policy {data['preprocessing'].get('policy', '')}"),
        {
            "sha256": data["preprocessing_sha256"],
            "annotations": json.dumps(annotators),
            **{k: str(v) for k, v in data["preprocessing"].items()},
        },
    )
    flow = data["flow_run_id"]
    yield Node(
        ingest,
        "activity",
        1,
        ("ingest", f"flow run {flow[:10]}"),
        {"prefect.flow_run_id": flow, "code_sha256": data["code_sha256"]},
    )
    beats = sum(entry["beats"] for entry in data["entries"])
    yield Node(
        tables,
        "entity",
        1,
        (f"{count} beat tables", f"{beats:,} beats", f"digest {data['sha256'][:10]}"),
        {"sha256": data["sha256"]},
    )
    yield Edge("used", ingest, source)
    yield Edge("used", ingest, config)
    yield Edge("used", ingest, "code")
    yield Edge("wasGeneratedBy", tables, ingest)
    yield Edge("wasDerivedFrom", "split", tables)
    yield Edge("used", training, tables)
    for entry in data["entries"] if detailed else ():
        record, table = f"record/{name}/{entry['record']}", f"table/{name}/{entry['record']}"
        digests = {f"sha256.{file}": digest for file, digest in entry["files"].items()}
        yield Node(
            record, "entity", 0, (entry["record"],), {"subject": entry["subject"], **digests}
        )
        facts = {"sha256": entry["sha256"], "prefect.task_run_id": entry["task_run_id"]}
        yield Node(table, "entity", 1, (entry["file"],), facts)
        yield Edge("hadMember", source, record)
        yield Edge("hadMember", tables, table)
        yield Edge("wasDerivedFrom", table, record)
        yield Edge("wasGeneratedBy", table, ingest)


def _version(lineage: Lineage, training: str, *, detailed: bool) -> Iterator[Node | Edge]:
    model = lineage.chain.document["model"]
    aliases = tuple(f"@{alias}" for alias in lineage.aliases)
    yield Node(
        "version",
        "entity",
        4,
        (f"{model['name']}/{model['version']}", *aliases, f"sealed {lineage.chain.sha256[:10]}"),
        {"chain_sha256": lineage.chain.sha256, "description": model["description"]},
        f"{lineage.server}/#/models/{model['name']}/versions/{model['version']}",
    )
    yield Edge("wasGeneratedBy", "version", training)
    if not detailed:
        yield Node("files", "entity", 5, (f"{len(model['files'])} files", "Keras, HDF5, LiteRT"))
        yield Edge("hadMember", "version", "files")
        return
    for file, digest in model["files"].items():
        yield Node(f"file/{file}", "entity", 5, (file,), {"sha256": digest})
        yield Edge("hadMember", "version", f"file/{file}")


def _entry(lineage: Lineage, entry: Any) -> Iterator[Node | Edge]:
    """A decision of the ledger, or an evaluation with its run."""
    person = f"person/{entry.who}"
    act = f"ledger/{entry.sequence}"
    runs = {run["run_id"]: run for run in lineage.evaluations}
    run = runs.get(entry.details.get("run_id", "")) if entry.action == "evaluated" else None
    facts = {"reason": entry.reason, "time": entry.time_utc, "entry_sha256": entry.sha256}
    link, detail = "", entry.details.get("alias", "")
    if run:
        facts |= {f"metric.{key}": str(value) for key, value in run["metrics"].items()}
        link = f"{lineage.server}/#/experiments/{run['experiment_id']}/runs/{run['run_id']}"
        detail = phrase_of("f1", run["metrics"]["f1"]) if "f1" in run["metrics"] else ""
    action = deed(entry).removeprefix("alias ") if entry.action == "alias" else entry.action
    lines = (
        f"{entry.sequence}  {action}",
        entry.reason[:34],
        detail if run else entry.time_utc[:10],
    )
    yield Node(act, "activity", 5, tuple(filter(None, lines)), facts, link)
    yield Edge("used", act, "version")
    yield Node(person, "agent", 6, (entry.who,))
    yield Edge("wasAssociatedWith", act, person)


def prov_json(lineage_graph: Graph) -> dict[str, Any]:
    """A graph as PROV-JSON."""
    out: dict[str, Any] = {"prefix": {"holter": NAMESPACE}}
    for node in lineage_graph.nodes:
        facts = {f"holter:{quote(k, safe='.-_')}": v for k, v in node.facts.items() if k != "time"}
        facts["prov:label"] = " · ".join(node.lines)
        if node.kind == "activity" and "time" in node.facts:
            facts["prov:startTime"] = node.facts["time"]
        out.setdefault(node.kind, {})[_name(node.id)] = facts
    for number, edge in enumerate(lineage_graph.edges):
        first, second, _ = RELATIONS[edge.relation]
        ends = {first: _name(edge.first), second: _name(edge.second)}
        out.setdefault(edge.relation, {})[f"_:r{number}"] = ends
    return out


def _name(identity: str) -> str:
    return f"holter:{quote(identity, safe='/.-_')}"


def mermaid(lineage_graph: Graph) -> str:
    """A graph as a Mermaid flow chart."""
    number = {node.id: f"n{index}" for index, node in enumerate(lineage_graph.nodes)}
    lines = ["flowchart LR"]
    for node in lineage_graph.nodes:
        begin, end = SHAPES[node.kind]
        text = "<br>".join(map(label, node.lines))
        lines.append(f"    {number[node.id]}{begin}{text}{end}")
    for edge in lineage_graph.edges:
        first, second = edge.flow
        arrow = "-.->" if edge.relation == "wasAssociatedWith" else "-->"
        lines.append(f"    {number[first]} {arrow} {number[second]}")
    return "\n".join(lines) + "\n"
