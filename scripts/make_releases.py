"""Make the releases in the box again from public data: `make releases DATA=FOLDER`.

Each network is trained, evaluated and described by the product's own commands in a state folder of
its own. What a device needs is put into `storage/releases`, and the digest of each manifest into
`storage/registry/boxed.py`, where it makes the release trusted. Usage:

    python scripts/make_releases.py FOLDER [NETWORK ...] [--check] [--epochs N] [--home FOLDER]

FOLDER holds a folder of each data set. What differs from the release that is there is told, file
by file and in numbers. `--check` changes nothing, and ends with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from storage.files import read_json, sha256_file, sha256_json, write_bytes, write_json
from storage.registry import boxed
from storage.registry.client import fetch_model_file
from storage.registry.model_files import MANIFEST
from storage.tables.golden_beats import GOLDEN, read_golden
from tasks.runtimes.runtimes import REFERENCE, files_of

if TYPE_CHECKING:
    from storage.audit.versions import VersionRecord

CARD = "card.md"
#: Runtimes whose files a device can run.
DEVICE_RUNTIMES = ("litert-float32", "litert-int8", "onnx")
RATES = ("sensitivity", "specificity", "ppv", "f1")
SOME_RECORDS_FAILED = 3


@dataclass(frozen=True)
class Source:
    """A data set of the table: what it is called, and whether its signals are read."""

    dataset: str
    signal: bool = False


@dataclass(frozen=True)
class Recipe:
    """What a network of the box learns from, and what it is held against.

    Attributes
    ----------
    learns : tuple of Source
        Data sets that are dealt to train, validation and test.
    tests : tuple of Source
        Data sets that it never learns from.
    options : tuple of str
        Options of its training.
    """

    learns: tuple[Source, ...]
    tests: tuple[Source, ...]
    options: tuple[str, ...] = ()


RHYTHMS = Recipe(
    learns=(
        Source("afdb"),
        Source("ltafdb"),
        Source("nsrdb"),
        Source("cinc2017", signal=True),
    ),
    tests=(Source("mitdb", signal=True), Source("cpsc2021", signal=True)),
    # A strip is short, and a day is long: of every ten beats drawn one is of a strip.
    options=("--calibration-folds", "5", *(f"--weight={w}" for w in (2, 1, 1, 8))),
)
RECIPES = {
    "rhythm": RHYTHMS,
    "rhythm_tiny": RHYTHMS,
    "rhythm_causal": RHYTHMS,
    "fused_cues": Recipe(
        learns=(
            Source("mitdb", signal=True),
            Source("cpsc2021", signal=True),
            Source("cinc2017", signal=True),
            Source("afdb"),
            Source("ltafdb"),
            Source("nsrdb"),
        ),
        tests=(),
        # Of every five beats drawn two have a signal.
        options=(
            "--calibration-folds",
            "5",
            *(f"--weight={w}" for w in (27, 45, 18, 3, 1, 0.5)),
        ),
    ),
}
#: Options of every training. Which arithmetic is quickest differs from run to run, so it is named.
TRAINING = ("--seed", "0", "--runtime", REFERENCE)
#: Options of every evaluation: new patients alone, and the beats that an analysis finds.
EVALUATION = ("--unseen", "--policy", "detected")


def options_of(sources: Sequence[Source], data: Path, on: bool = False) -> list[str]:
    """Data sets as a command takes them: names, folders, and whether signals are read."""
    words: list[str] = []
    for source in sources:
        words += ["--on", source.dataset] if on else [source.dataset]
    for source in sources:
        words += ["--data", str(data / source.dataset)]
        words.append("--signal" if source.signal else "--no-signal")
    return words


def holter(*words: str) -> None:
    """Run the `holter` command; records that fail are told by it, and do not end the work."""
    print("$ holter", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "flows", *words], check=False)  # noqa: S603 - no shell
    if done.returncode not in (0, SOME_RECORDS_FAILED):
        raise SystemExit(f"holter {words[0]}: ended with {done.returncode}")


@contextmanager
def own_servers(folder: Path | None) -> Iterator[None]:
    """A state folder of its own, with servers that every command of it uses."""
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "HOLTER_BEATS", "HOLTER_RELEASE_KEY"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="holter-releases-") as temporary:
        os.environ["HOLTER_HOME"] = str((folder or Path(temporary)).absolute())
        from flows.cli.options import serving

        with serving():
            yield


def make(network: str, data: Path, epochs: int | None, to: Path) -> None:
    """Train and evaluate a network, and write what a device needs of it."""
    from storage.audit.versions import read_version

    recipe, version = RECIPES[network], f"holter-{network}/1"
    rounds = ("--epochs", str(epochs)) if epochs else ()
    if not is_registered(version):
        options = (*recipe.options, *TRAINING, *rounds)
        holter("train", *options_of(recipe.learns, data), "--model", network, *options)
    sources = [*recipe.learns, *recipe.tests]
    holter("evaluate", version, *options_of(sources, data, on=True), *EVALUATION)
    write_release(network, read_version(version), to)


def is_registered(version: str) -> bool:
    """Whether a state folder that was kept has the version already."""
    from storage.errors import NotInRegistry
    from storage.registry.models import resolve

    try:
        resolve(version)
    except NotInRegistry:
        return False
    return True


def write_release(network: str, version: VersionRecord, to: Path) -> None:
    """Write a version's files for devices, its card, and a manifest that no run changes."""
    from flows.reports.release_card import release_card

    model, digests = version.model, version.files
    sealed = fetch_model_file(model.name, model.version, MANIFEST, digests[MANIFEST], to)
    manifest = device_manifest(read_json(sealed))
    for file in (*files_of(manifest).values(), GOLDEN):
        fetch_model_file(model.name, model.version, file, digests[file], to)
    manifest |= {
        "registered": model.reference,
        "trained_on": trained_on(version),
        "figures": figures_of(version, RECIPES[network], float(manifest["threshold"])),
    }
    write_bytes(to / CARD, release_card(version, manifest).encode())
    manifest["files"] = {
        path.name: {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in sorted(to.iterdir())
        if path.name != MANIFEST
    }
    write_json(to / MANIFEST, manifest)


def device_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest without what is not for devices, and without what differs from run to run."""
    runtimes = {
        name: {key: value for key, value in facts.items() if key != "cpu_us_per_row"}
        for name, facts in manifest["runtimes"].items()
        if name in DEVICE_RUNTIMES
    }
    aside = ("run_id", "files")
    rest = {name: value for name, value in manifest.items() if name not in aside}
    return {**rest, "runtimes": runtimes}


def trained_on(version: VersionRecord) -> list[dict[str, Any]]:
    """Each data set that a version learnt from, and how much of it: training and validation."""
    people = {p for side in ("train", "validation") for p in version.split[side]["subjects"]}
    rows = []
    for manifest in version.manifests:
        entries = [e for e in manifest.entries if f"{manifest.dataset}/{e.subject}" in people]
        rows.append(
            {
                "dataset": manifest.dataset,
                "title": manifest.title,
                "version": manifest.version,
                "licence": manifest.licence,
                "citation": manifest.citation,
                "signal": manifest.has_signal,
                "subjects": len({entry.subject for entry in entries}),
                "records": len(entries),
                "hours": round(sum(entry.hours for entry in entries), 2),
                "beats": sum(entry.beats for entry in entries),
                "source_sha256": sha256_json({e.record: dict(e.files) for e in manifest.entries}),
            }
        )
    return rows


def figures_of(version: VersionRecord, recipe: Recipe, threshold: float) -> list[dict[str, Any]]:
    """The newest evaluation's figures of each data set, of patients that it did not learn from."""
    from storage.datasets.dataset import load_spec

    metrics = version.evaluations[0].metrics
    rows = []
    for source in (*recipe.learns, *recipe.tests):
        key = f"{source.dataset}_"
        prevalence = metrics[f"{key}af_beats"] / metrics[f"{key}beats"]
        rates = RATES if prevalence else ("specificity",)
        names = [rate for rate in rates if f"{key}beat_{rate}" in metrics]
        ends = ("low", "high")
        rows.append(
            {
                "dataset": source.dataset,
                "title": load_spec(source.dataset).title,
                "side": "test" if source in recipe.learns else "never seen",
                "level": "beat",
                "signal": source.signal,
                "subjects": int(metrics[f"{key}patients"]),
                "records": int(metrics[f"{key}records"]),
                "hours": round(metrics[f"{key}analysable_hours"], 2),
                "beats": int(metrics[f"{key}beats"]),
                "prevalence": prevalence,
                **dict.fromkeys(RATES),
                **{rate: metrics[f"{key}beat_{rate}"] for rate in names},
                "interval": {
                    rate: [metrics[f"{key}beat_{rate}_{end}"] for end in ends] for rate in names
                },
                "threshold": threshold,
                "seed": int(version.split["seed"]),
            }
        )
    return rows


def differences(before: Path, after: Path) -> list[str]:
    """What differs between two folders of a release, in words and numbers; none where nothing."""
    sides = [
        {path.name: sha256_file(path) for path in folder.iterdir()}
        for folder in (before, after)
        if folder.is_dir()
    ]
    if len(sides) < 2:
        return ["there was none before"]
    names = sorted(sides[0].keys() | sides[1].keys())
    lines = [f"{n} differs" for n in names if sides[0].get(n) != sides[1].get(n)]
    if not lines:
        return []
    manifests = [read_json(folder / MANIFEST) for folder in (before, after)]
    lines += [
        f"manifest: {key}"
        for key in sorted(manifests[0].keys() | manifests[1].keys())
        if manifests[0].get(key) != manifests[1].get(key)
    ]
    for title, values in (("weights", weights_of), ("golden beats' answers", answers_of)):
        pair = [values(folder) for folder in (before, after)]
        if pair[0].shape != pair[1].shape:
            lines.append(f"{title}: found {pair[1].shape}; expected {pair[0].shape}")
        else:
            lines.append(f"{title}: largest difference {np.abs(pair[1] - pair[0]).max():.3g}")
    return lines


def weights_of(folder: Path) -> NDArray[np.float32]:
    """Every float constant of a release's float32 network, one after the other."""
    from ai_edge_litert.interpreter import Interpreter

    file = folder / files_of(read_json(folder / MANIFEST))[REFERENCE]
    interpreter = Interpreter(model_content=file.read_bytes())
    values = []
    for tensor in interpreter.get_tensor_details():
        try:
            value = interpreter.get_tensor(tensor["index"])
        except ValueError:  # no constant: it is not allocated
            continue
        if value.dtype == np.float32:
            values.append(value.ravel())
    return np.concatenate(values)


def answers_of(folder: Path) -> NDArray[np.float32]:
    """P(AF) of a release's golden beats."""
    return read_golden(folder / GOLDEN)[1].ravel()


def put(made: Path, folder: Path) -> None:
    """Put a release into its place in one step."""
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(made, fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def write_constants() -> None:
    """Write the digest of every manifest that is there into the code."""
    lines = [
        f'    "{name}": "{sha256_file(boxed.FOLDER / name / MANIFEST)}",\n'
        for name in RECIPES
        if (boxed.FOLDER / name / MANIFEST).is_file()
    ]
    source = Path(boxed.__file__)
    block = re.compile(r"(BOXED: Mapping\[str, str\] = \{\n).*?(\}\n)", re.DOTALL)
    text, count = block.subn(lambda match: match[1] + "".join(lines) + match[2], source.read_text())
    if count != 1:
        raise SystemExit(f"{source}: found {count} tables BOXED; expected one")
    write_bytes(source, text.encode())


def main() -> None:
    """Make the releases that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with a folder of each data set")
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(RECIPES)}; else all")
    parser.add_argument("--check", action="store_true", help="compare and change nothing")
    parser.add_argument("--epochs", type=int, help="in place of the usual ones; the card says so")
    text = "keep the state folder here; a network that is registered there is not trained again"
    parser.add_argument("--home", type=Path, help=text)
    options = parser.parse_args()
    networks = options.networks or list(RECIPES)
    if unknown := [name for name in networks if name not in RECIPES]:
        parser.error(f"found {', '.join(unknown)}; expected of {', '.join(RECIPES)}")
    sources = {s.dataset for n in networks for s in (*RECIPES[n].learns, *RECIPES[n].tests)}
    if missing := sorted(name for name in sources if not (options.data / name).is_dir()):
        parser.error(f"{options.data}: found no folder {', '.join(missing)}; fetch them first")
    differs = False
    with own_servers(options.home), tempfile.TemporaryDirectory(prefix="holter-box-") as folder:
        for network in networks:
            made, place = Path(folder) / network, boxed.FOLDER / network
            made.mkdir()
            make(network, options.data.absolute(), options.epochs, made)
            lines = differences(place, made)
            differs |= bool(lines)
            print(f"{network}: {'; '.join(lines) or 'bit-equal to the release that is there'}")
            if not options.check:
                put(made, place)
    if not options.check:
        write_constants()
    sys.exit(1 if options.check and differs else 0)


if __name__ == "__main__":
    main()
