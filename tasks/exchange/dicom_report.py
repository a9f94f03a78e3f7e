"""A report's PDF as a DICOM object: Encapsulated PDF Storage (PS3.3, A.45.1 and C.24).

Its title, its concept and its flag say what it is: unverified, of a program. Nobody is named in it
but where an identity is handed over: then it joins the patient's study, and names the recording
that it was made of.
"""

from __future__ import annotations

from datetime import datetime
from io import BytesIO
from uuid import uuid4

from storage.recordings.identity import Identity
from tasks.exchange.fhir import CODES, study_of

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
TITLE = "Holter AF: report of a program, not verified"
#: Elements that hold nothing where nobody is named: DICOM wants them to be there.
EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
#: What an identity gives them.
NAMES = {
    "PatientID": "patient",
    "PatientName": "name",
    "PatientBirthDate": "birth_date",
    "PatientSex": "sex",
    "StudyDate": "study_date",
    "StudyTime": "study_time",
    "StudyID": "study_id",
    "AccessionNumber": "accession",
    "ReferringPhysicianName": "physician",
}


def new_uid() -> str:
    """A UID made of a random UUID (PS3.5, B.2)."""
    return f"2.25.{uuid4().int}"


def dicom_report(
    pdf: bytes,
    software: str,
    hours: float,
    now: datetime,
    recorded: datetime | None = None,
    identity: Identity | None = None,
) -> bytes:
    """A DICOM file that holds a PDF.

    Parameters
    ----------
    pdf : bytes
        The report.
    software : str
        This program's version.
    hours : float
        Length of the recording.
    now : datetime
        When it was made, local time.
    recorded : datetime, optional
        When the recording began, by its recorder's clock.
    identity : Identity, optional
        Who it is of; without it patient and study are empty, and the study is one of its own.

    Returns
    -------
    bytes
        A file of PS3.10, explicit VR little endian.
    """
    from pydicom import Dataset, dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(ENCAPSULATED_PDF)
    meta.MediaStorageSOPInstanceUID = UID(new_uid())
    meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE_ENDIAN)
    out = Dataset()
    out.file_meta = meta
    out.SpecificCharacterSet = "ISO_IR 192"
    out.SOPClassUID = ENCAPSULATED_PDF
    out.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    for keyword in EMPTY:
        setattr(out, keyword, "")
    for keyword, name in NAMES.items() if identity else ():
        setattr(out, keyword, getattr(identity, name))
    out.StudyInstanceUID = (identity.study if identity else "") or new_uid()
    out.SeriesInstanceUID = new_uid()
    out.SeriesNumber = 1
    out.InstanceNumber = 1
    out.Modality = "DOC"
    out.ConversionType = "WSD"
    out.Manufacturer = "Holter AF"
    out.ManufacturerModelName = "Holter AF"
    out.SoftwareVersions = software
    out.InstanceCreationDate = out.ContentDate = now.strftime("%Y%m%d")
    out.InstanceCreationTime = out.ContentTime = now.strftime("%H%M%S")
    out.AcquisitionDateTime = recorded.strftime("%Y%m%d%H%M%S") if recorded else ""
    out.BurnedInAnnotation = "YES"  # the PDF has the recording's name and date
    out.VerificationFlag = "UNVERIFIED"
    out.DocumentTitle = TITLE
    _, value, meaning = CODES[study_of(hours)]
    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = value, "LN", meaning
    out.ConceptNameCodeSequence = [concept]
    if identity and identity.instance and identity.kind:
        source = Dataset()
        source.ReferencedSOPClassUID = identity.kind
        source.ReferencedSOPInstanceUID = identity.instance
        out.SourceInstanceSequence = [source]
    out.MIMETypeOfEncapsulatedDocument = "application/pdf"
    out.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    out.EncapsulatedDocumentLength = len(pdf)
    stream = BytesIO()
    dcmwrite(stream, out, enforce_file_format=True)
    return stream.getvalue()
