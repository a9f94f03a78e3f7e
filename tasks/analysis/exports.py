"""What hospitals' systems take of an analysis: a FHIR bundle, and its report as a DICOM object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from storage.errors import PlaceError
from storage.recordings.identity import identity_of
from tasks.analysis.finding import Analysis
from tasks.analysis.many import REPORT
from tasks.analysis.page.to_pdf import NO_PDF
from tasks.analysis.words import FOOT, headline
from tasks.exchange.dicom_report import dicom_report
from tasks.exchange.fhir import fhir_bundle

#: The formats that may be asked for, by the endings of their files.
FHIR, DICOM = ".fhir.json", REPORT
NO_PYDICOM = "no DICOM: the package pydicom is not installed (the extra exchange)"


def check_exports(exports: tuple[str, ...]) -> None:
    """Make sure, before any work, that the formats can be written.

    Raises
    ------
    PlaceError
        A library is missing.
    """
    if DICOM in exports and find_spec("pydicom") is None:
        raise PlaceError(NO_PYDICOM)
    if DICOM in exports and find_spec("reportlab") is None:
        raise PlaceError(NO_PDF)


def export(
    analysis: Analysis,
    figures: Mapping[str, Any],
    pdf: bytes | None,
    exports: tuple[str, ...],
    source: Path | None = None,
) -> dict[str, bytes]:
    """The files of the formats that are asked for, by their endings.

    Parameters
    ----------
    analysis, figures : Analysis, mapping
        The analysis, and its summary.
    pdf : bytes or None
        Its report.
    exports : tuple of str
        `FHIR`, `DICOM`.
    source : Path, optional
        The recording's file, whose header names the patient; nobody is named without it.

    Raises
    ------
    RecordError
        The header names no patient.
    PlaceError
        There is no PDF to put into a DICOM object.
    """
    identity = identity_of(source) if source and exports else None
    software = version("holter-af")
    out = {}
    if FHIR in exports:
        conclusion = f"{_capital(headline(figures))}.\n{FOOT}"
        bundle = fhir_bundle(figures, conclusion, software, pdf, identity)
        text = json.dumps(bundle, indent=1, allow_nan=False, ensure_ascii=False)
        out[FHIR] = (text + "\n").encode()
    if DICOM in exports:
        if pdf is None:
            raise PlaceError(NO_PDF)
        hours, start = analysis.duration_s / 3600, analysis.record.start
        out[DICOM] = dicom_report(pdf, software, hours, datetime.now(), start, identity)
    return out


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
