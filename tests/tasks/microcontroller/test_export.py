"""Rhythm networks as C: the same integers as in Python, the release's answers, signed files."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from bench import microcontroller
from bench.microcontroller import CORES, Core, answer_here, read_answers, write_beats
from edge_agent.live import Decider
from flows.cli.app import app
from storage.audit import ledger
from storage.errors import ModelError, SignatureError
from storage.files import read_json, write_json
from storage.registry import tracking
from storage.registry.boxed import boxed_release
from storage.registry.model_files import MANIFEST, WEIGHTS
from storage.registry.signing import SIGNATURE, public_key, sign_name, sign_release, trusted_keys
from tasks.features.rhythm import RhythmRecord
from tasks.learning.simulate import simulate_subject
from tasks.microcontroller.export import (
    Sources,
    check_export,
    in_integers,
    read_sources,
    write_export,
)
from tasks.microcontroller.fixed import FixedNetwork
from tasks.microcontroller.generate import to_c
from tasks.microcontroller.network import read_network
from tasks.microcontroller.reference import CANNOT_TELL, fixed_answers, in_microseconds
from tasks.runtimes.inference import of_record, probabilities
from tasks.runtimes.runtimes import Network, open_runtime
from tasks.scores.rule import expit, judge, lines, log_odds, log_odds_of
from tasks.signal.stream import Peaks
from tests.answers import held
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
NETWORKS = ("rhythm_tiny", "rhythm_causal")
#: Lengths about which a median, the network's reach or a delay begins or ends.
LENGTHS = (
    1,
    2,
    3,
    8,
    9,
    17,
    18,
    30,
    31,
    60,
    61,
    62,
    63,
    91,
    92,
    93,
    94,
    95,
    107,
    108,
    109,
    155,
    900,
)
MISSING = microcontroller.missing_tools()
FLASH, MEMORY, STACK, INSTRUCTIONS = 16 << 10, 4 << 10, 400, 100_000
Microseconds = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Made:
    """A release of the box, its exports by arithmetic, and its network in integers."""

    name: str
    network: Network
    sources: Sources
    integers: FixedNetwork
    folders: dict[str, Path]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    made = {}
    for name in NETWORKS:
        folder, manifest = boxed_release(name)
        sources, folders = read_sources(folder, manifest), {}
        for arithmetic in ("int8", "float32"):
            folders[arithmetic] = tmp_path_factory.mktemp(f"{name}-{arithmetic}")
            write_export(sources, arithmetic, folders[arithmetic])
        network = open_runtime(folder, manifest)
        made[name] = Made(name, network, sources, in_integers(sources), folders)
    return made


def programs() -> list[str]:
    """The C programs of docs/microcontroller.md."""
    page = (ROOT / "docs" / "microcontroller.md").read_text()
    return re.findall(r"```c\n(.*?)```", page, re.DOTALL)


def simulated(seed: int, course: str = "paroxysmal", hours: float = 0.4) -> NDArray[np.int64]:
    """R peaks of a simulated recording that no scale was taken from, at 250 Hz."""
    return simulate_subject(100 + seed, hours, course=course).beats  # type: ignore[arg-type]


def made_up_stretches() -> list[Microseconds]:
    """Stretches of all lengths: even ones, wild ones with unknown intervals, simulated ones."""
    random = np.random.default_rng(0)
    stretches = []
    for n in LENGTHS:
        wild = random.integers(50_000, 5_000_000, n)
        wild[random.random(n) < 0.1] = 0
        even = np.rint(800_000 + random.normal(0, 20_000, n)).astype(np.int64)
        even[0] = 0
        stretches += [wild, even, np.zeros(min(n, 61), np.int64)]
    for seed, course in enumerate(("sinus", "paroxysmal", "persistent")):
        stretches.append(np.diff(simulated(seed, course), prepend=0) * 4000)
        stretches[-1][0] = 0
    return stretches


def answers_here(
    made: Made, arithmetic: str, stretches: Sequence[Microseconds], folder: Path, *flags: str
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """P(AF) and verdict of each beat by the C on this computer."""
    write_beats(folder / "beats.bin", stretches)
    answer_here(made.folders[arithmetic], made.name, folder, ("-O2", *flags))
    return read_answers(folder / "answers.bin", arithmetic)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_c_gives_the_integers_of_its_twin(
    exports: dict[str, Made], name: str, tmp_path: Path
) -> None:
    """Strict C99 without a warning, defined throughout, gives numpy's integers bit for bit."""
    made, stretches = exports[name], made_up_stretches()
    defined = ("-fsanitize=undefined", "-fno-sanitize-recover", "-Wconversion")
    p_af, verdict = answers_here(made, "int8", stretches, tmp_path, *defined)
    expected = [fixed_answers(made.integers, stretch) for stretch in stretches]
    np.testing.assert_array_equal(p_af, np.concatenate([answer.p_af for answer in expected]))
    np.testing.assert_array_equal(verdict, np.concatenate([a.verdict for a in expected]))
    assert set(verdict.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("dilations", [(1, 3, 2, 5), (2, 1, 4, 3), (9, 9, 9)])
@pytest.mark.parametrize("name", NETWORKS)
def test_layers_of_any_reach_give_the_integers_of_their_twin(
    exports: dict[str, Made], name: str, dilations: tuple[int, ...], tmp_path: Path
) -> None:
    """The first layers are computed anew from intervals that are kept as long as they look back."""
    made, network = exports[name], exports[name].sources.network
    layers = zip(network.convolutions, dilations, strict=False)
    convolutions = tuple(replace(layer, dilation=dilation) for layer, dilation in layers)
    sources = replace(made.sources, network=replace(network, convolutions=convolutions))
    write_export(sources, "int8", tmp_path / "c")
    other = replace(made, integers=in_integers(sources), folders={"int8": tmp_path / "c"})
    stretches = made_up_stretches()
    p_af, _ = answers_here(other, "int8", stretches, tmp_path, "-fsanitize=undefined,address")
    expected = [fixed_answers(other.integers, stretch).p_af for stretch in stretches]
    np.testing.assert_array_equal(p_af, np.concatenate(expected))


@pytest.mark.parametrize("arithmetic", ["int8", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_c_answers_as_the_release(
    exports: dict[str, Made], name: str, arithmetic: str, tmp_path: Path
) -> None:
    """P(AF) is the release's own, calibrated by the beats that have come; float32 by its digits."""
    made = exports[name]
    peaks = simulated(3)
    rr_s = (np.diff(peaks, prepend=np.nan) / 250).astype(np.float32)
    p_af, _ = answers_here(made, arithmetic, [in_microseconds(rr_s)], tmp_path)
    record = RhythmRecord("a", "a", rr_s, np.zeros(len(rr_s), np.int8))
    odds = log_odds(of_record(made.network, name, record))
    beats = np.minimum(np.arange(len(rr_s)) + made.integers.ahead + 1, len(rr_s))
    slope, offset = lines(made.sources.rule, beats)
    expected = expit(slope * odds + offset + log_odds_of(made.sources.rule.af_share))
    if arithmetic == "float32":
        np.testing.assert_allclose(p_af, expected, atol=1e-4)
    else:
        assert np.mean(np.abs(p_af / 65536 - expected)) < 0.01


@pytest.mark.parametrize("arithmetic", ["int8", "float32"])
def test_the_causal_c_says_what_live_says(
    exports: dict[str, Made], arithmetic: str, tmp_path: Path
) -> None:
    """Each beat is AF, not AF or untold as by `holter-edge live`, but for rounding at a margin."""
    made, peaks = exports["rhythm_causal"], simulated(4)
    rule = made.sources.rule
    begins = np.arange(len(peaks)) == 0
    decisions = Decider(made.network, 250, rule, rule.af_share).decide(Peaks(peaks, begins), 0)
    live = np.array([d.af if d.sure else CANNOT_TELL for d in decisions])
    rr_us = np.diff(peaks, prepend=peaks[0]) * 4000
    _, verdict = answers_here(made, arithmetic, [rr_us], tmp_path)
    assert np.mean(verdict == live) > (0.999 if arithmetic == "float32" else 0.98)
    assert not np.any((verdict + live) == 1)  # one says AF, the other that it is not


@pytest.mark.real
@pytest.mark.parametrize("name", NETWORKS)
def test_real_intervals_give_the_same_integers_and_the_releases_decisions(
    exports: dict[str, Made], name: str, real_data: Path, tmp_path: Path
) -> None:
    """Of real patients, every integer is the twin's, and 98 in 100 verdicts are the release's."""
    made = exports[name]
    table = microcontroller.table_of(real_data / "afdb", "04043")
    stretches = microcontroller.stretches_of(table)
    p_af, verdict = answers_here(made, "int8", stretches, tmp_path)
    expected = [fixed_answers(made.integers, stretch) for stretch in stretches]
    np.testing.assert_array_equal(p_af, np.concatenate([answer.p_af for answer in expected]))
    np.testing.assert_array_equal(verdict, np.concatenate([a.verdict for a in expected]))
    if name == "rhythm_tiny":
        answers, _ = probabilities(made.network, name, table)
        judgement = judge(made.sources.rule, table, answers)
        release = np.where(judgement.sure, judgement.decided, CANNOT_TELL)
        both = (verdict != CANNOT_TELL) & (release != CANNOT_TELL)
        assert np.mean(verdict == release) > 0.98
        assert np.array_equal(verdict[both], release[both])


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
@pytest.mark.parametrize("core", CORES, ids=lambda core: core.cpu)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_cortex_m_gives_the_same_bytes(
    exports: dict[str, Made], name: str, core: Core, tmp_path: Path
) -> None:
    """An emulated Cortex-M writes this computer's bytes, within flash, memory and instructions."""
    made, folder = exports[name], exports[name].folders["int8"]
    answers_here(made, "int8", made_up_stretches(), tmp_path)
    here = (tmp_path / "answers.bin").read_bytes()
    counts = microcontroller.answer_on(core, folder, name, tmp_path)
    assert (tmp_path / "answers.bin").read_bytes() == here
    assert counts.beats == len(here) // 8
    sizes = microcontroller.sizes_on(core, folder, name, tmp_path)
    assert sizes.flash < FLASH
    assert max(counts.instructions / counts.beats, counts.dearest_beat) < INSTRUCTIONS
    assert sizes.memory < MEMORY
    assert counts.stack < STACK


def test_a_beat_that_cannot_be_taken_is_refused(exports: dict[str, Made], tmp_path: Path) -> None:
    """While answers wait, after the end, after a pause of over 10 s, no beat is taken in."""
    made = exports["rhythm_causal"]
    source = made.folders["int8"] / "rhythm_causal.c"
    words = ["gcc", *microcontroller.WARNINGS, "-shared", "-fPIC", str(source), "-o", "c.so"]
    microcontroller.run_words(words, tmp_path)
    c, state = ctypes.CDLL(str(tmp_path / "c.so")), ctypes.create_string_buffer(1 << 14)
    answer = ctypes.create_string_buffer(16)
    c.rhythm_causal_begin(state)
    assert c.rhythm_causal_next(state, answer) == 0
    assert c.rhythm_causal_beat(state, ctypes.c_uint32(0)) == 1
    assert c.rhythm_causal_beat(state, ctypes.c_uint32(800_000)) == 0  # the first waits
    assert (c.rhythm_causal_next(state, answer), c.rhythm_causal_next(state, answer)) == (1, 0)
    assert c.rhythm_causal_beat(state, ctypes.c_uint32(10_000_001)) == 0
    assert c.rhythm_causal_beat(state, ctypes.c_uint32(10_000_000)) == 1
    c.rhythm_causal_end(state)
    assert c.rhythm_causal_next(state, answer) == 1
    assert c.rhythm_causal_beat(state, ctypes.c_uint32(800_000)) == 0


def test_the_pages_program_answers_each_beat(exports: dict[str, Made], tmp_path: Path) -> None:
    """What docs/microcontroller.md shows compiles, and prints a line a beat."""
    program, _ = programs()
    (tmp_path / "page.c").write_text(program)
    folder = exports["rhythm_tiny"].folders["int8"]
    words = ["gcc", *microcontroller.WARNINGS, f"-I{folder}", "page.c"]
    microcontroller.run_words([*words, str(folder / "rhythm_tiny.c"), "-o", "page"], tmp_path)
    beats = np.diff(simulated(5)[:200], prepend=0) * 4000
    beats[0] = 0
    data = beats.astype("<u4").tobytes()
    lines = subprocess.run([tmp_path / "page"], input=data, capture_output=True).stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(200))


@pytest.fixture
def signed(exports: dict[str, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export where there is a release key."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    public_key()
    write_export(exports["rhythm_tiny"].sources, "float32", tmp_path / "c")
    return tmp_path / "c"


def test_an_export_says_what_made_it(exports: dict[str, Made], signed: Path) -> None:
    """The signed manifest and the header name release, weights and digests; the C holds no more."""
    export = check_export(signed, trusted_keys())
    release = export.manifest["release"]
    _, manifest = boxed_release("rhythm_tiny")
    assert release["registered"] == manifest["registered"]
    assert release["weights"]["sha256"] == manifest["files"]["model.onnx"]["sha256"]
    assert export.signed_by == public_key()
    header = (signed / "rhythm_tiny.h").read_text()
    for text in (release["manifest_sha256"], release["weights"]["sha256"], "FOR RESEARCH"):
        assert text in header
    source = (signed / "rhythm_tiny.c").read_text()
    assert not {"malloc", "calloc", "alloca"} & set(source.replace("(", " ").split())
    integers = (exports["rhythm_tiny"].folders["int8"] / "rhythm_tiny.c").read_text()
    assert "math.h" not in integers
    assert "float" not in integers.split("#include")[1]


def test_a_changed_export_is_refused(signed: Path) -> None:
    """A file that was changed, is missing or was added, and an unsigned one, are refused."""
    source = signed / "rhythm_tiny.c"
    text = source.read_text()
    source.write_text(text.replace("0", "1", 1))
    with pytest.raises(SignatureError, match=r"rhythm_tiny\.c is not what was signed"):
        check_export(signed, trusted_keys())
    source.unlink()
    with pytest.raises(SignatureError, match=r"no file rhythm_tiny\.c"):
        check_export(signed, trusted_keys())
    source.write_text(text)
    (signed / "more.c").write_text(text)
    with pytest.raises(SignatureError, match=r"more\.c"):
        check_export(signed, trusted_keys())
    (signed / "more.c").unlink()
    with pytest.raises(SignatureError, match="trusts none"):
        check_export(signed, ())
    content = read_json(signed / MANIFEST)
    write_json(signed / MANIFEST, {**content, "arithmetic": "int8"})
    with pytest.raises(SignatureError, match="manifest is not what was signed"):
        check_export(signed, trusted_keys())
    (signed / SIGNATURE).unlink()
    with pytest.raises(SignatureError, match="who made it cannot be told"):
        check_export(signed, trusted_keys())


def test_files_of_another_origin_are_left(exports: dict[str, Made], tmp_path: Path) -> None:
    """An export goes into no folder that holds anything else."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"notes\.txt.*expected an empty folder"):
        write_export(exports["rhythm_tiny"].sources, "float32", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_releases_words_stay_in_their_comment(exports: dict[str, Made]) -> None:
    """What a release says of itself ends no comment and opens none; its name is a name of C."""
    sources = exports["rhythm_tiny"].sources
    texts = ("x */ int y; /*", "a\nb \\", "\u202e/*")
    origin = replace(sources.origin, registered="*/ #error", sources=texts)
    header = to_c(sources.network, sources.rule, None, origin)["rhythm_tiny.h"]
    first, _, rest = header.partition("*/")
    assert first.startswith("/*")
    assert "/*" not in first[2:]
    assert rest.lstrip().startswith("#ifndef")
    assert header.isascii()
    with pytest.raises(ModelError, match="no name that C takes"):
        to_c(replace(sources.network, name="a;b"), sources.rule, None, origin)
    few = sources.network.convolutions[:2]
    with pytest.raises(ModelError, match="found 2 layers; expected at least 3"):
        to_c(replace(sources.network, convolutions=few), sources.rule, None, origin)


def test_weights_of_another_network_are_refused() -> None:
    """Bytes that are no ONNX file, and a network of other layers, are told as such."""
    with pytest.raises(ModelError, match="found no rhythm network"):
        read_network(b"\x80\x04pickle", "rhythm_tiny")
    folder, manifest = boxed_release("fused_cues")
    with pytest.raises(ModelError, match="found no rhythm network"):
        read_sources(folder, manifest)


def test_an_export_of_a_registered_version_is_in_its_ledger(
    fresh_model: str, tmp_path: Path
) -> None:
    """The entry has the digest of the export's manifest; the box's own exports have none."""
    folder, manifest = boxed_release("rhythm_tiny")
    release = tmp_path / "release"
    shutil.copytree(folder, release)
    write_json(release / MANIFEST, {k: v for k, v in manifest.items() if k != "registered"})
    (release / WEIGHTS).write_bytes(b"of no use here")
    sign_release(release)
    run_id = tracking.start_run("train/export", "export", {}, {})
    version = tracking.register_model(
        run_id, name=fresh_model, folder=release, tags={}, description=""
    )
    tracking.log_name(version, sign_name(release, version.name, version.version))
    for model in (version.reference, "rhythm_tiny"):
        words = ["edge", "export", model, "--out", str(tmp_path / "c"), "--format", "json"]
        value = held(CliRunner().invoke(app, words).stdout, "edge export")
    (entry,) = ledger.entries(fresh_model)
    assert (entry.action, entry.version) == ("exported", version.version)
    words[2] = version.reference
    value = held(CliRunner().invoke(app, words).stdout, "edge export")
    assert value["manifest_sha256"] == entry.details["export_sha256"]
    assert value["release"] == version.reference


def test_the_command_writes_what_it_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`holter edge export` and `check-export` answer alike; without a key it says so, and ends."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    words = ["edge", "export", "rhythm_tiny", "--out", str(tmp_path / "c"), "--format", "json"]
    check = ["edge", "check-export", str(tmp_path / "c"), "--format", "json"]
    value = held(CliRunner().invoke(app, words).stdout, "edge export")
    assert (value["signed_by"], value["arithmetic"]) == (None, "int8")
    assert isinstance(CliRunner().invoke(app, check).exception, SignatureError)
    public_key()
    value = held(CliRunner().invoke(app, words).stdout, "edge export")
    assert held(CliRunner().invoke(app, check).stdout, "edge check-export") == value
    assert value["signed_by"] == public_key()
