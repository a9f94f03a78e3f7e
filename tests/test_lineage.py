"""Lineage: what made a version, in every format, and who ever saw a record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from prov.model import ProvDocument
from typer import Exit

from flows.cli_lineage import lineage as command
from flows.servers import mlflow_server
from storage import ledger
from storage.chain import TEACHER_TAG
from storage.errors import NotInRegistry
from storage.lineage import Lineage, read_lineage, saw
from storage.signing import trusted_keys
from tasks.lineage_page import html, outline
from tasks.provenance_graph import graph, mermaid, prov_json
from tests.sealed import made_up_manifest, made_up_report, made_up_version, sides_of

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own, at import


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two models on simulated records: `a` in two versions of two splits, `b` without a record."""
    folder = tmp_path_factory.mktemp("lineage")
    with mlflow_server(folder) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", address)
        patch.setenv("HOLTER_HOME", str(folder / "home"))
        path, manifest = made_up_manifest(folder / "records")
        split = sides_of(manifest)
        first = made_up_version("holter-a", folder / "a1", path, manifest, split)
        made_up_report(first, "belt", folder / "report")
        ledger.move_alias("holter-a", 1, "champion", "F1 of 0.875 on the belt", who="Dr. Who")
        turned = {**split, "train": split["test"], "test": split["train"], "sha256": "1" * 64}
        made_up_version("holter-a", folder / "a2", path, manifest, turned)
        broken = {manifest.entries[0].record: "record sim000: found nothing; expected a record"}
        less = replace(manifest, entries=manifest.entries[1:], failures=broken)
        made_up_version("holter-b", folder / "b1", path, less, sides_of(less))
        for name, teacher in (("c", "holter-a/1"), ("d", "holter-c/1"), ("e", "holter-b/1")):
            made_up_version(
                f"holter-{name}", folder / name, path, less, sides_of(less), {TEACHER_TAG: teacher}
            )
        yield folder


@pytest.fixture(scope="module")
def found(models: Path) -> Lineage:
    """The lineage of the champion."""
    assert models.is_dir()
    return read_lineage("holter-a@champion", trusted_keys())


def test_a_lineage_tells_the_records_that_failed(models: Path, found: Lineage) -> None:
    """How many of how many, each with its reason; where none failed there is no such line."""
    assert models.is_dir()
    lacking = html(read_lineage("holter-b/1", trusted_keys()))
    assert "1 of 4 records failed" in lacking
    assert "sim000: record sim000: found nothing; expected a record" in lacking
    assert "records failed" not in html(found)


def test_a_lineage_is_whole(found: Lineage) -> None:
    """The chain, its seal, the aliases that are on it now, and all that followed."""
    assert found.chain.reference == "holter-a/1"
    assert found.chain.fault == ""
    assert found.aliases == ("champion",)
    actions = [entry.action for entry in found.entries]
    assert actions == ["registered", "alias", "evaluated", "alias"]
    (run,) = found.evaluations
    assert run["metrics"]["f1"] == 0.875


def test_the_outline_names_all_that_made_it(found: Lineage) -> None:
    """Licence, digests, seed, subjects of each side, commit, metrics, files and decisions."""
    top = outline(found)
    lines = [branch.text for branch in top.below] + [b.text for t in top.below for b in t.below]
    said = "\n".join([top.text, *lines])
    document = found.chain.document
    data, run = document["datasets"][0], document["run"]
    for word in (
        "holter-a/1 @champion",
        "SIMULATED",
        data["licence"],
        data["origin"],
        data["sha256"][:16],
        "seed 3",
        "validation: 1 subject,",
        run["tags"]["git.commit"],
        "f1 0.875",
        "model.tflite",
        "alias @champion  by Dr. Who: F1 of 0.875 on the belt",
        "report of device belt (f1 0.875, latency_p99_ms 1.5)",
    ):
        assert word in said, word


def test_prov_is_w3c_prov(found: Lineage) -> None:
    """The kept library reads the export, and nothing that the graph says is lost on the way."""
    drawn = graph(found, every=True)
    document = ProvDocument.deserialize(content=json.dumps(prov_json(drawn)), format="json")
    records = [str(record.get_type()) for record in document.get_records()]
    elements = {"prov:Entity", "prov:Activity", "prov:Agent"}
    assert sum(kind in elements for kind in records) == len(drawn.nodes)
    assert sum(kind not in elements for kind in records) == len(drawn.edges)
    known = {node.id for node in drawn.nodes}
    assert all({edge.first, edge.second} <= known for edge in drawn.edges)
    kinds = {node.id: node.kind for node in drawn.nodes}
    for edge in drawn.edges:
        ends = (kinds[edge.first], kinds[edge.second])
        assert ends == ENDS[edge.relation], edge
    assert document.get_provn().count("wasDerivedFrom") == 1 + 4  # the split, and four tables


ENDS = {
    "used": ("activity", "entity"),
    "wasGeneratedBy": ("entity", "activity"),
    "wasDerivedFrom": ("entity", "entity"),
    "wasAssociatedWith": ("activity", "agent"),
    "hadMember": ("entity", "entity"),
}


def test_mermaid_draws_every_node_and_relation(found: Lineage) -> None:
    """Each node has one shape, each relation one arrow between nodes that are there."""
    drawn = graph(found, every=False)
    lines = mermaid(drawn).splitlines()
    nodes = [m[1] for line in lines if (m := re.match(r"    (n\d+)[\[({]", line))]
    arrows = [m.groups() for line in lines if (m := re.match(r"    (n\d+) -[.-]*> (n\d+)$", line))]
    assert lines[0] == "flowchart LR"
    assert len(nodes) == len(set(nodes)) == len(drawn.nodes)
    assert len(arrows) == len(drawn.edges)
    assert {end for arrow in arrows for end in arrow} <= set(nodes)


class Loads(HTMLParser):
    """What a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note scripts, styles and pictures from elsewhere."""
        if tag in ("script", "link", "img", "iframe", "object") or "src" in dict(attrs):
            self.loads.append(tag)

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.text += data


def test_the_page_needs_nothing_else(found: Lineage) -> None:
    """One HTML file: no script, picture or style from elsewhere; every record and file in it."""
    page = Loads()
    page.feed(html(found))
    assert page.loads == []
    for record in ("sim000", "sim001", "sim002", "sim003"):
        assert record in page.text
    assert found.chain.document["model"]["files"]["model.tflite"] in page.text


def sights(record: str) -> set[tuple[str, int, str, str]]:
    return {(s.model, s.version, s.subject, s.side) for s in saw(record, trusted_keys())}


@pytest.mark.parametrize("record", ["sim000", "simulated/sim000"])
def test_who_saw_a_record(models: Path, record: str) -> None:
    """Every version that saw the record is told with its side, and one that did not is not.

    So are those that learnt from the answers of one that learnt from it, however far.
    """
    assert models.is_dir()
    (subject,) = {s.subject for s in saw(record, trusted_keys())}
    assert sights(record) == {
        ("holter-a", 1, subject, "train"),
        ("holter-a", 2, subject, "test"),
        ("holter-c", 1, subject, "taught by holter-a/1"),
        ("holter-d", 1, subject, "taught by holter-c/1"),
    }
    assert {s.records for s in saw(record, trusted_keys())} == {("sim000",)}
    champions = [s.version for s in saw(record, trusted_keys()) if "champion" in s.aliases]
    assert champions == [1]


def test_a_record_that_nobody_saw(models: Path) -> None:
    """Nothing is told of a record that no version saw; half a name is no name."""
    assert models.is_dir()
    assert saw("sim00", trusted_keys()) == []


def test_a_version_that_is_not_there_is_told(models: Path) -> None:
    """A model, version or alias that is not there is an error, not an empty answer."""
    assert models.is_dir()
    for name in ("holter-z", "holter-a/9", "holter-a@nobody"):
        with pytest.raises(NotInRegistry):
            read_lineage(name, trusted_keys())


@pytest.mark.parametrize("form", ["tree", "json", "mermaid", "html", "prov"])
def test_the_command_writes_every_format(models: Path, tmp_path: Path, form: str) -> None:
    """`holter lineage MODEL --format F --out FILE` writes the whole of it."""
    assert models.is_dir()
    command("holter-a/1", form=form, out=tmp_path / "out")
    assert "holter-a" in (tmp_path / "out").read_text()


def test_the_command_prints(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tree ends with the next step; a record's answer is a table, or JSON."""
    assert models.is_dir()
    command("holter-a@champion")
    assert "holter verify holter-a/1" in capsys.readouterr().err
    command(record="sim000")
    assert "its subject: 4." in capsys.readouterr().err
    command(record="sim000", form="json")
    sides = {one["side"].split()[0] for one in json.loads(capsys.readouterr().out)}
    assert sides == {"train", "test", "taught"}
    command(record="nobody")
    assert "No model version ever saw nobody" in capsys.readouterr().err


def test_a_broken_ledger_is_told_with_the_answer(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An answer from a ledger that no trusted key signed ends with 1 and says why."""
    assert models.is_dir()
    with pytest.raises(Exit) as ended:
        command(record="sim000", key=["0" * 64])
    assert ended.value.exit_code == 1
    assert "which is not trusted" in capsys.readouterr().err


def test_misuse_is_told() -> None:
    """Neither a model nor a record, both, or an unknown format is refused."""
    for words in (None, None), ("a", "b"):
        with pytest.raises(ValueError, match="give a model"):
            command(*words)
    with pytest.raises(ValueError, match="expected one of tree, json"):
        command("a", form="pdf")
