"""Who a recording is of, as its header says: read only where it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storage.errors import RecordError
from storage.formats.dicom import describe_dicom, dicom_head
from storage.formats.edf import describe_edf
from storage.formats.ishne import describe_ishne
from storage.formats.leads import SUFFIX

#: How a header is read that has a number of the patient, by its file's ending.
DESCRIBE = {SUFFIX["edf"]: describe_edf, SUFFIX["ishne"]: describe_ishne}
DESCRIBE |= {SUFFIX["dicom"]: describe_dicom}


@dataclass(frozen=True)
class Identity:
    """A patient and a study; "" of what is not known.

    Attributes
    ----------
    patient : str
        The hospital's or the recorder's number of the patient.
    name, birth_date, sex : str
        As DICOM writes them: FAMILY^GIVEN, YYYYMMDD, and M, F or O.
    study, study_id, study_date, study_time, accession, physician : str
        The study that the recording is part of: its UID, number, date, time and accession number,
        and who referred the patient.
    instance, kind : str
        The UIDs of the recording's own file and of its SOP class.
    """

    patient: str
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    study: str = ""
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    accession: str = ""
    physician: str = ""
    instance: str = ""
    kind: str = ""


#: Where a DICOM file has each.
KEYWORDS = {
    "patient": "PatientID",
    "name": "PatientName",
    "birth_date": "PatientBirthDate",
    "sex": "PatientSex",
    "study": "StudyInstanceUID",
    "study_id": "StudyID",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "accession": "AccessionNumber",
    "physician": "ReferringPhysicianName",
    "instance": "SOPInstanceUID",
    "kind": "SOPClassUID",
}


def identity_of(path: Path) -> Identity:
    """Who a recording is of.

    Parameters
    ----------
    path : Path
        Its file, or a WFDB record's name.

    Raises
    ------
    RecordError
        Its header has no number of the patient, or cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix == SUFFIX["dicom"]:
        head = dicom_head(path)
        values = {key: head.get(keyword) for key, keyword in KEYWORDS.items()}
        identity = Identity(**{key: str(value or "").strip() for key, value in values.items()})
    else:
        describe = DESCRIBE.get(suffix)
        identity = Identity(describe(path.parent, path.stem).patient if describe else "")
    if not identity.patient:
        expected = "a header that names its patient, for --identity"
        raise RecordError(path.stem, "no number of a patient", expected, path.name)
    return identity
