"""`holter analyse`: AF in a recording, or in every one of a folder; no server, no training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import Format, answer
from flows.cli.options import number, registry
from flows.reports.shown import say

if TYPE_CHECKING:  # loads numpy, which is not for `holter --help`
    from tasks.analysis.analyse import Release


def analyse(
    recording: Annotated[
        Path,
        typer.Argument(
            help="A recording (.hea, .dat, .edf, .ecg, .dcm, or a WFDB record's name), or a folder "
            "of them.",
            metavar="FILE",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path(),
    model: Annotated[
        str | None,
        typer.Option(
            help="What decides: a name of the box, a release's folder, or NAME@alias, NAME/version "
            "or NAME of the registry. Default: the best of the box that the signal allows."
        ),
    ] = None,
    lead: Annotated[
        list[str] | None,
        typer.Option(help="Lead to read; repeatable, the first that is there is read."),
    ] = None,
    least_beats: Annotated[
        int, number("least_beats", "Shorter runs of decisions become what surrounds them.")
    ] = 1,
    af_share: Annotated[
        float | None,
        number(
            "af_share",
            "Share of 1 of the recorded time that is AF among those who are asked. Default: 0.12 "
            "where less than two minutes can be analysed, else as the release was calibrated.",
        ),
    ] = None,
    fhir: Annotated[
        bool, typer.Option("--fhir", help="Write the answer as a FHIR R4 bundle as well.")
    ] = False,
    dicom: Annotated[
        bool,
        typer.Option("--dicom", help="Write the report as a DICOM Encapsulated PDF as well."),
    ] = False,
    identity: Annotated[
        bool,
        typer.Option(
            "--identity",
            help="Name the patient in these two, as the recording's header does; else nobody.",
        ),
    ] = False,
    output: Format = "text",
) -> None:
    """Find AF in a recording: how much, when, how sure; with a report page and its episodes."""
    from flows.review.looks import look_at
    from storage.files import check_writable
    from tasks.analysis import command
    from tasks.analysis.exports import DICOM, FHIR, check_exports
    from tasks.analysis.many import Order

    def tell(value: object, text: str) -> None:
        answer(value, output, lambda: say(text))

    if identity and not (fhir or dicom):
        raise typer.BadParameter("--identity: expected --fhir or --dicom beside it")
    check_writable(out, "folder (--out)")
    exports = (*((FHIR,) if fhir else ()), *((DICOM,) if dicom else ()))
    check_exports(exports)
    with release_of(model) as release:
        order = Order(out, release, tuple(lead or ()), least_beats, af_share=af_share)
        order = replace(order, exports=exports, identity=identity, look=look_at)
        if recording.is_dir():
            from flows.services.progress import Progress

            with Progress("Analysing", 0) as progress:
                exit_code = command.analyse_folder(
                    recording, order, tell, lambda name, total: progress.step(name, total=total)
                )
        else:
            exit_code = command.analyse_recording(recording, order, tell)
    if exit_code:
        raise typer.Exit(exit_code)


@contextmanager
def release_of(model: str | None, runtime: str | None = None) -> Iterator[Release | None]:
    """The release that is named, checked and tested; None where the box is to choose.

    Of a registered version the file of its own runtime is fetched, and of the one that is named.

    Raises
    ------
    HolterError
        There is none of this name, it is not to be trusted, or does not answer as it should.
    """
    from tempfile import TemporaryDirectory

    from storage.registry.boxed import BOXED, trusted_content
    from storage.registry.reference import parse
    from storage.registry.signing import check_release, trusted_keys
    from tasks.analysis.analyse import Release, from_the_box
    from tasks.runtimes.releases import fetch_release, self_test

    if model is None:
        yield None
        return
    origin = f"{model}, named by --model"
    if model in BOXED:
        yield from_the_box(model)
        return
    if Path(model).exists():
        folder = Path(model)
        manifest = trusted_content(folder) or check_release(folder, trusted_keys())
        self_test(folder)
        yield Release(folder, manifest, origin)
        return
    parse(model)
    with registry(), TemporaryDirectory(prefix="holter-") as work:
        from storage.registry.models import resolve_number

        name, version = resolve_number(model)  # trusted no further than its signature goes
        keys = trusted_keys()
        fetched = fetch_release(name, version, Path(work) / "model", keys, runtime)
        yield Release(*fetched, origin)
