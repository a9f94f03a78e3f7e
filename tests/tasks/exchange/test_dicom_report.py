"""The report as a DICOM object: pydicom reads it back, and names nobody unasked."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime
from io import BytesIO
from pathlib import Path

import pytest

pydicom = pytest.importorskip("pydicom", reason="no pydicom: the extra exchange is not installed")

from storage.recordings.identity import Identity  # noqa: E402 - after the look for it
from tasks.exchange.dicom_report import EMPTY, dicom_report, new_uid  # noqa: E402

NOW, RECORDED = datetime(2026, 3, 5, 10, 20, 30), datetime(2026, 3, 4, 8, 30, 5)
EVA = Identity(
    patient="ward-7",
    name="Müller^Eva",
    birth_date="19500102",
    sex="F",
    study="1.2.3.4",
    study_id="77",
    study_date="20260304",
    study_time="083005",
    accession="A1",
    physician="Who^Doctor",
    instance="1.2.3.4.5",
    kind="1.2.840.10008.5.1.4.1.1.9.1.3",
)
PDFS = {"even": b"%PDF-1.7 even.", "odd": b"%PDF-1.7 odd.."[:13]}


@pytest.mark.parametrize("pdf", PDFS.values(), ids=PDFS)
def test_the_pdf_comes_out_as_it_went_in(pdf: bytes) -> None:
    """Its length is told, as a value of DICOM is even; what it is, and that nobody verified it."""
    read = pydicom.dcmread(BytesIO(dicom_report(pdf, "1.0", 24.0, NOW, RECORDED)))
    assert read.EncapsulatedDocument[: read.EncapsulatedDocumentLength] == pdf
    assert len(read.EncapsulatedDocument) % 2 == 0
    assert read.SOPClassUID.name == "Encapsulated PDF Storage"
    assert read.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert (read.VerificationFlag, read.Modality) == ("UNVERIFIED", "DOC")
    assert (read.ContentDate, read.ContentTime) == ("20260305", "102030")
    assert read.AcquisitionDateTime == "20260304083005"
    assert read.ConceptNameCodeSequence[0].CodeValue == "18754-2"


def test_nobody_is_named_unasked() -> None:
    """Without an identity patient and study are empty, and the study is its own."""
    first, second = (
        pydicom.dcmread(BytesIO(dicom_report(b"%PDF", "1", 0.1, NOW))) for _ in range(2)
    )
    assert [first.get(keyword) for keyword in EMPTY] == [first.get("PatientID")] * len(EMPTY)
    assert not first.PatientID
    assert first.StudyInstanceUID != second.StudyInstanceUID
    assert "SourceInstanceSequence" not in first
    assert first.ConceptNameCodeSequence[0].CodeValue == "11524-6"
    named = pydicom.dcmread(BytesIO(dicom_report(b"%PDF", "1", 0.1, NOW, None, EVA)))
    assert (named.PatientID, str(named.PatientName)) == ("ward-7", "Müller^Eva")
    assert (named.StudyInstanceUID, named.AccessionNumber) == ("1.2.3.4", "A1")
    assert named.SourceInstanceSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5"
    assert named.SOPInstanceUID != "1.2.3.4.5"


def test_a_uid_is_one_of_dicom() -> None:
    """At most 64 characters of digits and dots; no two are the same."""
    uids = {new_uid() for _ in range(100)}
    assert len(uids) == 100
    assert all(len(uid) <= 64 and pydicom.uid.UID(uid).is_valid for uid in uids)


@pytest.mark.parametrize("identity", [None, EVA], ids=["nobody", "named"])
def test_dicom3tools_finds_no_error(tmp_path: Path, identity: Identity | None) -> None:
    """The validator of the standard's definitions takes it as an Encapsulated PDF."""
    if not (validator := shutil.which("dciodvfy")):
        pytest.skip("no dciodvfy: Debian's dicom3tools is not installed")
    path = tmp_path / "r.dcm"
    path.write_bytes(dicom_report(PDFS["odd"], "1.0", 24.0, NOW, RECORDED, identity))
    done = subprocess.run([validator, "-new", str(path)], capture_output=True, text=True)
    assert "EncapsulatedPDF" in done.stderr
    assert "Error" not in done.stderr
