"""Lineage: what made a version, in every format, and who ever saw a record."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from prov.model import ProvDocument
from typer import Exit

from flows.cli.lineage import lineage as command
from storage.audit import ledger
from storage.audit.lineage import Lineage, read_lineage
from storage.audit.sights import Answer, sights_of
from storage.audit.verify import MISMATCH, verify
from storage.datasets.patients import number_digests
from storage.errors import NotInRegistry
from storage.registry.client import call
from storage.registry.signing import trusted_keys
from storage.registry.tags import TEACHER_TAG
from storage.tables.beats_manifest import Entry, Manifest, read_manifest, write_manifest
from storage.tables.content import recordings
from storage.tables.record_search import NO_PRINTS, Query, look_into
from storage.text import did_you_mean
from tasks.pages.lineage_page import html, outline
from tasks.pages.provenance_graph import graph, mermaid, prov_json
from tests.emptied import Emptied
from tests.made_up import manifest
from tests.sealed import made_up_manifest, made_up_report, made_up_version, sides_of

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own, at import


@pytest.fixture(scope="module")
def models(empty_mlflow: Emptied, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two models on simulated records: `a` in two versions of two splits, `b` without a record."""
    folder = tmp_path_factory.mktemp("lineage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", empty_mlflow.address)
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
        made_up_version("holter-ward", folder / "w", path, of_a_ward(manifest), WARD)
        yield folder


def made_up(folder: Path) -> Manifest:
    """The manifest of the models' records."""
    return read_manifest(folder / "home/beats/dataset=simulated/manifest.json")


#: A split of one subject.
WARD = {
    **{side: {"subjects": [], "beats": 0, "af_beats": 0} for side in ("validation", "test")},
    "train": {"subjects": ["made-up/p0001"], "beats": 10, "af_beats": 5},
    "sha256": "3" * 64,
}


def of_a_ward(manifest: Manifest) -> Manifest:
    """A data set of one record in a folder, whose patient has a number of the hospital's."""
    entry = replace(
        manifest.entries[0],
        record="ward-3/night1",
        subject="p0001",
        sha256="ab" * 32,
        files={"ward-3/night1.edf": "cd" * 32},
        content={"signal": ["e" * 16], "beats": []},
    )
    subjects = {
        "map": {"ward-3/night1": "p0001"},
        "numbers": number_digests({"MRN 0815": "p0001", "MRN 0816": "p2"}),
    }
    spec = {**manifest.spec, "subjects": subjects}
    return replace(manifest, dataset="made-up", entries=(entry,), spec=spec)


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
    assert actions == ["registered", "alias", "evaluated", "alias", "alias"]
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
        "Beat F1 0.8750",
        "model.tflite",
        "alias @champion to version 1  by Dr. Who: F1 of 0.875 on the belt",
        "alias @candidate from version 1 to version 2",
        "report of device belt (Beat F1 0.8750, One beat, 99th percentile 1.5 ms)",
    ):
        assert word in said, word


def test_prov_is_w3c_prov(found: Lineage) -> None:
    """The kept library reads the export, and nothing that the graph says is lost on the way."""
    drawn = graph(found, detailed=True)
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
    drawn = graph(found, detailed=False)
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


def asked(record: str) -> Answer:
    return sights_of(record, trusted_keys())


def sights(record: str) -> set[tuple[str, int, str, str]]:
    return {(s.model, s.version, s.subject, s.side) for s in asked(record).sights}


@pytest.mark.parametrize("record", ["sim000", "simulated/sim000"])
def test_who_saw_a_record(models: Path, record: str) -> None:
    """Every version that saw the record is told with its side, and one that did not is not.

    So are those that learnt from the answers of one that learnt from it, however far.
    """
    assert models.is_dir()
    answer = asked(record)
    (subject,) = {s.subject for s in answer.sights}
    assert sights(record) == {
        ("holter-a", 1, subject, "train"),
        ("holter-a", 2, subject, "test"),
        ("holter-c", 1, subject, "taught by holter-a/1"),
        ("holter-d", 1, subject, "taught by holter-c/1"),
    }
    assert {s.records for s in answer.sights} == {("sim000",)}
    assert {s.in_mlflow for s in answer.sights} == {"yes"}
    assert [s.version for s in answer.sights if "champion" in s.aliases] == [1]
    assert answer.unreadable == ()


def test_every_name_of_a_record_finds_it(models: Path) -> None:
    """Its name with and without folder and data set, its subject's, digests, a patient's number."""
    assert models.is_dir()
    table, source = "ab" * 32, "cd" * 32
    names = ("ward-3/night1", "night1", "made-up/ward-3/night1", "made-up/night1", "p0001")
    digests = (table, source, source[:12], source.upper())
    for name in (*names, *digests, "MRN 0815", "mrn  0815", "made-up/p0001"):
        assert sights(name) == {("holter-ward", 1, "p0001", "train")}, name
    for nobody in (source[:11], "MRN", "0815", "ward-3", "sim00"):
        assert not asked(nobody).sights, nobody


def test_no_number_of_a_patient_is_kept(models: Path) -> None:
    """The chain holds a keyed digest in place of the number; without the key it cannot be told."""
    (sight,) = asked("MRN 0815").sights
    known = ledger.own_entries(sight.model)
    assert "0815" not in str(read_lineage("holter-ward/1", trusted_keys()).chain.document)
    assert "0815" not in str(known)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.datasets.patients.key_path", lambda: models / "no" / "patients.key")
        answer = asked("MRN 0815")
    assert (answer.sights, answer.exists) == ((), False)
    (told,) = answer.unreadable
    assert "holter-ward/1, data set made-up: patients' own numbers are kept by key" in told


def test_an_unknown_name_is_an_error(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that nothing here has is an error with the nearest one: no version is acquitted."""
    assert models.is_dir()
    with pytest.raises(NotInRegistry, match=r"'sim00'.*did you mean 'sim00\d'"):
        command(record="sim00")
    assert "No model version ever saw" not in capsys.readouterr().out


def test_a_record_that_nobody_saw(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What beat tables hold and no version saw is told so, by every version's sealed split."""
    folder = lonely(models)
    manifest = read_manifest(folder / "manifest.json")
    own = {"signal": ["f" * 16], "beats": []}
    entries = tuple(replace(entry, content=own, files={}) for entry in manifest.entries)
    write_manifest(folder / "manifest.json", replace(manifest, entries=entries))
    try:
        command(record="lone001")
        assert "No model version ever saw lone001" in capsys.readouterr().out
        (folder / "manifest.json").write_text("{")
        with pytest.raises(Exit):
            command(record="sim000")
        assert "cannot tell" in capsys.readouterr().err
    finally:
        shutil.rmtree(folder)


def lonely(models: Path) -> Path:
    """A folder of beat tables that no version has: the simulated ones by other names."""
    folder = models / "home" / "beats" / "dataset=lonely"
    folder.mkdir()
    manifest = made_up(models)
    entries = tuple(
        replace(entry, record=f"lone00{number}", subject=f"lone00{number}")
        for number, entry in enumerate(manifest.entries)
    )
    write_manifest(folder / "manifest.json", replace(manifest, dataset="lonely", entries=entries))
    return folder


def test_a_recording_that_was_seen_under_another_name(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its prints are those of a record that versions saw: they are told, and by which name."""
    expected = sights("sim000")
    folder = lonely(models)
    try:
        assert sights("lone000") == expected
        assert {one.same_as for one in asked("lone000").sights} == {"lonely/lone000"}
        assert {one.same_as for one in asked("sim000").sights} == {""}
        command(record="lonely/lone000", form="json")
        told = json.loads(capsys.readouterr().out)["sights"]
        assert {one["same_as"] for one in told} == {"lonely/lone000"}
        manifest = read_manifest(folder / "manifest.json")
        bare = tuple(replace(entry, content={}, files={}) for entry in manifest.entries)
        look = look_into(
            [asdict(replace(manifest, entries=bare))],
            Query("other", None, tuple(recordings(manifest))),
            "holter-x/1",
        )
        assert look.faults == [f"holter-x/1, data set lonely: {NO_PRINTS}"]
    finally:
        shutil.rmtree(folder)


def test_a_version_without_a_chain_cannot_be_told(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A version that MLflow has and no ledger may have seen anyone: exit code 1; others' do not."""
    assert models.is_dir()
    tag = {"key": "holter.dataset_sha256", "value": "0"}
    for name, tags in (("holter-u", [tag]), ("anothers", [])):
        call("POST", "registered-models/create", name=name)
        call("POST", "model-versions/create", name=name, source="s3://nowhere/model", tags=tags)
    try:
        with pytest.raises(Exit) as ended:
            command(record="sim000")
        assert ended.value.exit_code == 1
        told = capsys.readouterr().err
        assert "cannot tell  holter-u/1: the ledger has no sealed chain of it" in told
        assert "anothers" not in told
    finally:
        for name in ("holter-u", "anothers"):
            call("DELETE", "registered-models/delete", name=name)


def _again(entry: Entry) -> Entry:
    """Another recording, under a name of its own."""
    name = f"again{entry.record}"
    prints = {kind: [f"{name}-{kind}-{at}" for at in range(16)] for kind in ("signal", "beats")}
    subject = f"again{entry.subject}"
    return replace(entry, record=name, subject=subject, files={}, content=prints)


def test_a_model_made_again_has_its_own_chain(models: Path) -> None:
    """Deleted and made again, a model counts from 1: nothing of the earlier one is its own."""
    path, manifest = models / "home/beats/dataset=simulated/manifest.json", made_up(models)
    entries = tuple(_again(entry) for entry in manifest.entries)
    manifest = replace(manifest, dataset="again", entries=entries)
    split = sides_of(manifest)
    first = made_up_version("holter-again", models / "r1", path, manifest, split)
    made_up_report(first, "belt", models / "report-again")
    ledger.move_alias("holter-again", 1, "champion", "good")
    call("DELETE", "registered-models/delete", name="holter-again")
    with pytest.raises(NotInRegistry, match=f"gone from MLflow.*{first.run_id}"):
        read_lineage("holter-again/1", trusted_keys())
    gone = {s.in_mlflow for s in asked("againsim000").sights}
    assert gone == {"gone"}
    turned = {**split, "train": split["test"], "test": split["train"], "sha256": "2" * 64}
    second = made_up_version("holter-again", models / "r2", path, manifest, turned)
    assert second.version == first.version == 1
    mine = read_lineage("holter-again/1", trusted_keys())
    assert mine.chain.document["split"]["sha256"] == "2" * 64
    assert [entry.action for entry in mine.entries] == ["registered", "alias"]
    assert (mine.aliases, mine.faults, mine.evaluations) == (("candidate",), (), ())
    assert [f for f in verify("holter-again/1", trusted_keys()) if f.state == MISMATCH] == []
    answer = asked("againsim000")
    seen = {(s.run_id, s.side, s.in_mlflow, s.aliases) for s in answer.sights}
    earlier = "gone, of an earlier model of this name"
    assert seen == {
        (first.run_id, "train", earlier, ()),
        (second.run_id, "test", "yes", ("candidate",)),
    }
    assert answer.unreadable == ()


def test_what_is_not_as_recorded_is_in_the_lineage(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An alias that was taken away, and a run that was deleted, are told; exit code 1."""
    assert models.is_dir()
    run_id = read_lineage("holter-a/1", trusted_keys()).chain.document["run"]["run_id"]
    call("DELETE", "registered-models/alias", name="holter-a", alias="champion")
    call("POST", "runs/delete", run_id=run_id)
    try:
        with pytest.raises(Exit):
            command("holter-a/1")
        told = capsys.readouterr().err
        assert "alias champion is on no version; the ledger has 1" in told
        assert f"run {run_id} is deleted in MLflow" in told
        assert "@champion  sealed" not in told
        with pytest.raises(NotInRegistry, match="the ledger has it on version 1"):
            read_lineage("holter-a@champion", trusted_keys())
        assert sights("sim000")  # a deleted run can be read
    finally:
        call("POST", "runs/restore", run_id=run_id)
        call("POST", "registered-models/alias", name="holter-a", alias="champion", version="1")
    assert read_lineage("holter-a/1", trusted_keys()).faults == ()


def test_what_a_training_simulates_is_told(found: Lineage) -> None:
    """Simulated data sets and records drawn beside them are in the outline, page and graph."""
    document = found.chain.document
    run = {**document["run"], "params": {**document["run"]["params"], "simulated": "16"}}
    drawn = replace(found, chain=replace(found.chain, document={**document, "run": run}))
    told = "16 simulated records of sinus rhythm are drawn each epoch"
    for text in (html(drawn), json.dumps(prov_json(graph(drawn, detailed=True)))):
        assert told in text
        assert "data set simulated is simulated" in text
    assert told not in html(found)


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
    assert "holter verify holter-a/1" in capsys.readouterr().out
    command(record="sim000")
    told = capsys.readouterr().out
    assert "its subject: 4." in told
    assert "SIMULATED" in told
    command(record="sim000", form="json")
    rows = json.loads(capsys.readouterr().out)["sights"]
    sides = {one["side"].split()[0] for one in rows}
    assert sides == {"train", "test", "taught"}


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


def test_a_slip_in_a_name_with_its_data_set_has_a_nearest_name() -> None:
    """The nearest of `made-up/ward-12` is a name with its data set, as the record was asked for."""
    data = asdict(manifest("ab"))
    data["failures"] = {"ward-12": "no header"}
    look = look_into([data], Query("made-up/ward-21", None), "here")
    assert not look.by_name
    assert did_you_mean("made-up/ward-21", look.names) == " (did you mean 'made-up/ward-12'?)"
