"""A lineage as an outline, and as one HTML page with its graph that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from storage.audit.chain import SIDES, side_of
from storage.audit.ledger_entry import deed
from storage.audit.lineage import Lineage
from storage.registry.tags import TEACHER_RUN_TAG, TEACHER_SHA256_TAG, TEACHER_TAG
from storage.tables.beats_manifest import manifest_from, review_words, rhythm_words
from tasks.pages.document import (
    Block,
    Branch,
    Code,
    Drawing,
    Heading,
    Summary,
    Table,
    Tile,
    Words,
    to_html,
)
from tasks.pages.markup import escape
from tasks.pages.numbers import label_of, phrase_of, text_of
from tasks.pages.provenance_graph import Graph, Node, graph
from tasks.pages.simulations import simulations

COLUMN, ROW, WIDTH, LINE, MARGIN = 188.0, 16.0, 160.0, 15.0, 6.0
STAGES = ("data", "beats", "code, split", "training", "version", "what followed", "by whom")
#: Subjects of a side that an outline names before it only counts.
MOST_NAMES = 12


def outline(lineage: Lineage) -> Branch:
    """A version's lineage as an outline, the data first and the decisions last."""
    document = lineage.chain.document
    model, run = document["model"], document["run"]
    aliases = "".join(f" @{alias}" for alias in lineage.aliases)
    fault = lineage.chain.fault
    seal = (
        f"seal: {fault}"
        if fault
        else f"sealed {document['time_utc']}, {_short(lineage.chain.sha256)}"
    )
    return Branch(
        f"{model['name']}/{model['version']}{aliases}  {seal}",
        (
            *_faults(lineage),
            *(_data(data) for data in document["datasets"]),
            _split(document["split"]),
            _training(run, document["datasets"]),
            Branch("files", tuple(Branch(f"{k}  {_short(v)}") for k, v in model["files"].items())),
            _ledger_branch(lineage),
        ),
    )


def _faults(lineage: Lineage) -> list[Branch]:
    """What is wrong with the ledger, or deleted in MLflow, if anything is."""
    faults = tuple(Branch(text) for text in lineage.faults)
    return [Branch("not as it was recorded", faults)] if faults else []


def _short(digest: str) -> str:
    return f"SHA-256 {digest[:16]}"


def _data(data: Mapping[str, Any]) -> Branch:
    annotators = data["spec"].get("annotations", {})
    beats = "|".join(annotators.get("beats", ()))
    files = sum(len(entry["files"]) for entry in data["entries"])
    simulated = "SIMULATED " if data["simulated"] else ""
    task_runs = sum(bool(entry["task_run_id"]) for entry in data["entries"])
    return Branch(
        f"{simulated}{data['title']} ({data['dataset']} {data['version']}), {data['licence']}",
        (
            Branch(f"read from {data['origin']}: {len(data['entries'])} records, {files} files"),
            *_failures(data),
            Branch(f"annotators: beats {beats}, rhythm {rhythm_words(data['spec'])}"),
            *_review(data),
            Branch(
                f"preprocessing: policy {data['preprocessing'].get('policy')}, "
                f"{_short(data['preprocessing_sha256'])}; code {_short(data['code_sha256'])}"
            ),
            Branch(f"beat tables: {_short(data['sha256'])}"),
            Branch(
                f"Prefect flow run {data['flow_run_id']}, {task_runs} records with their task runs"
            ),
        ),
    )


def _review(data: Mapping[str, Any]) -> list[Branch]:
    """How far people's decisions shape the labels, if they do."""
    words = review_words(manifest_from(data).entries)
    return [Branch(f"labels reviewed: {words}")] if words else []


def _failures(data: Mapping[str, Any]) -> list[Branch]:
    """The records that could not be used, if there are any, and why."""
    failures = data["failures"]
    records = len(failures) + len(data["entries"])
    below = tuple(Branch(f"{record}: {reason}") for record, reason in failures.items())
    return [Branch(f"{len(failures)} of {records} records failed", below)] if failures else []


def _split(split: Mapping[str, Any]) -> Branch:
    return Branch(
        f"split {split.get('paradigm')}, seed {split.get('seed')}, {_short(split['sha256'])}",
        tuple(
            Branch(
                f"{side}: {_people(split[side]['subjects'])}, {split[side]['beats']:,} beats, "
                f"{split[side]['af_beats']:,} of AF: {_names(split[side]['subjects'])}"
            )
            for side in SIDES
        ),
    )


def _people(subjects: Sequence[str]) -> str:
    return f"{len(subjects)} subject{'s' * (len(subjects) != 1)}"


def _names(subjects: Sequence[str]) -> str:
    more = len(subjects) - MOST_NAMES
    return ", ".join(subjects[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _training(run: Mapping[str, Any], datasets: Sequence[Mapping[str, Any]]) -> Branch:
    tags = run["tags"]
    dirty = ", with changes that are not committed" if tags.get("git.dirty") == "true" else ""
    steps = [key.removeprefix("prefect.task_run.") for key in tags if "prefect.task_run." in key]
    params = ", ".join(f"{key} {value}" for key, value in run["params"].items())
    scores = [
        phrase_of(key.removeprefix("test_"), float(value["value"]))
        for key, value in run["metrics"].items()
        if key.startswith("test_")
    ]
    return Branch(
        f"training: MLflow run {run['run_id']}",
        (
            Branch(f"commit {tags.get('git.commit')}{dirty}"),
            Branch(
                f"environment lock {_short(tags.get('holter.environment_sha256', ''))}, "
                f"Python {tags.get('holter.python', 'unknown')}"
            ),
            Branch(f"Prefect flow run {tags.get('prefect.flow_run_id')}: {', '.join(steps)}"),
            *_teacher(tags),
            *(Branch(f"SIMULATED: {text}") for text in simulations(run["params"], datasets)),
            Branch(f"parameters: {params}"),
            Branch(f"test side: {', '.join(scores)}"),
        ),
    )


def _teacher(tags: Mapping[str, str]) -> list[Branch]:
    """The version whose answers it learnt from, if there is one: its data is behind this too."""
    if TEACHER_TAG not in tags:
        return []
    digest, run = tags[TEACHER_SHA256_TAG], tags[TEACHER_RUN_TAG]
    text = f"teacher {tags[TEACHER_TAG]}, weights {_short(digest)}, MLflow run {run}"
    return [Branch(text, (Branch(f"what made it: holter lineage {tags[TEACHER_TAG]}"),))]


def _ledger_branch(lineage: Lineage) -> Branch:
    return Branch("what followed (the ledger)", tuple(Branch(line) for line in _entries(lineage)))


def _entries(lineage: Lineage) -> list[str]:
    runs = {run["run_id"]: run["metrics"] for run in lineage.evaluations}
    lines = []
    for entry in lineage.entries:
        figures = (
            runs.get(entry.details.get("run_id", ""), {}) if entry.action == "evaluated" else {}
        )
        phrases = [phrase_of(k, figures[k]) for k in ("f1", "latency_p99_ms") if k in figures]
        lines.append(
            f"{entry.sequence}  {entry.time_utc}  {deed(entry)}  by {entry.who}: "
            f"{entry.reason}" + (f" ({', '.join(phrases)})" if phrases else "")
        )
    return lines


def html(lineage: Lineage) -> str:
    """One page: what it comes to, the graph, the outline, every record, every file."""
    return to_html(f"Lineage of {lineage.chain.reference}", blocks(lineage))


def blocks(lineage: Lineage) -> list[Block]:
    """The page's blocks, the answer and the graph first."""
    document = lineage.chain.document
    run = document["run"]
    out: list[Block] = [
        _summary(lineage),
        Drawing(svg(graph(lineage, detailed=False)), "From data to decisions"),
        Words(
            "Every value is from the sealed chain; what followed is from the signed ledger. "
            "Whether both still hold:"
        ),
        Code(f"holter verify {lineage.chain.reference}"),
        Heading("Outline"),
        outline(lineage),
    ]
    for data in document["datasets"]:
        out += [Heading(f"Records of {data['dataset']}"), _records(document, data)]
    metrics = [
        (label_of(key), text_of(float(metric["value"]), key))
        for key, metric in run["metrics"].items()
    ]
    parts = {
        "Files of the version": (("file", "SHA-256"), [*document["model"]["files"].items()]),
        "Figures of the training": (("figure", "value"), metrics),
        "Parameters of the training": (("parameter", "value"), _rows(run["params"])),
        "Tags of the training": (("tag", "value"), _rows(run["tags"])),
    }
    for name, (columns, rows) in parts.items():
        out += [Heading(name), Table(columns, rows)]
    return out


def _summary(lineage: Lineage) -> Summary:
    """Whether it is as it was recorded, and what it came from."""
    document, fault = lineage.chain.document, lineage.chain.fault or "; ".join(lineage.faults)
    data, split = document["datasets"], document["split"]
    entries = [entry for manifest in data for entry in manifest["entries"]]
    beats = sum(entry["beats"] for entry in entries)
    f1 = document["run"]["metrics"].get("test_f1", {}).get("value")
    names = ", ".join(
        "SIMULATED " * manifest["simulated"] + manifest["dataset"] for manifest in data
    )
    return Summary(
        f"Not as it was recorded: {fault}" if fault else "Sealed, and the ledger is whole",
        (
            Tile("Records", f"{len(entries):,}", f"{names}: {beats:,} beats"),
            *(Tile(f"Subjects, {side}", f"{len(split[side]['subjects']):,}") for side in SIDES),
            Tile("Beat F1, test set", text_of(None if f1 is None else float(f1), "f1")),
            Tile(
                "Aliases",
                str(len(lineage.aliases)),
                " ".join(f"@{alias}" for alias in lineage.aliases),
            ),
        ),
        "bad" if fault else "good",
    )


def _rows(texts: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, text[:160]) for name, text in sorted(texts.items())]


def _records(document: Mapping[str, Any], data: Mapping[str, Any]) -> Table:
    columns = ("record", "subject", "side", "hours", "beats", "AF beats", "beat table", "files")
    return Table(
        columns,
        [
            (
                entry["record"],
                entry["subject"],
                side_of(document, data["dataset"], entry["subject"]),
                f"{entry['hours']:.2f}",
                f"{entry['beats']:,}",
                f"{entry['af_beats']:,}",
                entry["sha256"][:16],
                ", ".join(f"{name} {digest[:12]}" for name, digest in entry["files"].items()),
            )
            for entry in data["entries"]
        ],
    )


def svg(lineage_graph: Graph) -> str:
    """A graph in columns from left to right, each node a box, each relation a curve."""
    places: dict[str, tuple[float, float, float]] = {}
    order = sorted(lineage_graph.nodes, key=lambda node: node.column)
    for column, nodes in groupby(order, key=lambda node: node.column):
        y = 40.0
        for node in nodes:
            height = LINE * len(node.lines) + 12
            places[node.id] = (MARGIN + COLUMN * column, y, height)
            y += height + ROW
    wide = MARGIN + COLUMN * len(STAGES)
    high = max(y + height for _, y, height in places.values()) + MARGIN
    parts = [
        f'<text x="{x}" y="22" class="faint" font-size="12">{escape(stage)}</text>'
        for x, stage in ((MARGIN + COLUMN * k, stage) for k, stage in enumerate(STAGES))
    ]
    parts += [_curve(places[edge.flow[0]], places[edge.flow[1]]) for edge in lineage_graph.edges]
    parts += [_box(node, *places[node.id]) for node in lineage_graph.nodes]
    return (
        f'<svg class="graph" viewBox="0 0 {wide:g} {high:g}" width="{wide:g}" role="img" '
        'aria-label="The lineage from data to decisions">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" class="tip"/></marker></defs>'
        + "".join(parts)
        + "</svg>"
    )


def _box(node: Node, x: float, y: float, height: float) -> str:
    corner = 3 if node.kind == "entity" else 12
    texts = "".join(
        f'<text x="{x + 9:g}" y="{y + 18 + LINE * k:g}" font-size="{13 if k == 0 else 11.5}" '
        f'class="{"" if k == 0 else "faint"}">{escape(_cut(line, 20 if k == 0 else 23))}</text>'
        for k, line in enumerate(node.lines)
    )
    box = (
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH:g}" height="{height:g}" rx="{corner}" '
        f'class="{node.kind}"/>{texts}'
    )
    return f'<a href="{escape(node.link)}">{box}</a>' if node.link else f"<g>{box}</g>"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _curve(begin: tuple[float, float, float], end: tuple[float, float, float]) -> str:
    x1, y1 = begin[0] + WIDTH, begin[1] + begin[2] / 2
    x2, y2 = end[0], end[1] + end[2] / 2
    if begin[0] == end[0]:  # within a column: down, or up, on the left of the boxes
        x1 = x2 = begin[0] + WIDTH / 2
        down = end[1] > begin[1]
        y1, y2 = (begin[1] + begin[2], end[1]) if down else (begin[1], end[1] + end[2])
        bend = f"L{x2:g} {y2:g}"
    elif begin[0] > end[0]:  # backwards
        x1, x2 = begin[0], end[0] + WIDTH
        bend = f"C{x1 - 30:g} {y1:g} {x2 + 30:g} {y2:g} {x2:g} {y2:g}"
    else:
        bend = f"C{x1 + 30:g} {y1:g} {x2 - 30:g} {y2:g} {x2:g} {y2:g}"
    return f'<path d="M{x1:g} {y1:g}{bend}" class="way" marker-end="url(#tip)"/>'
