"""The answer about a recording as an HL7 FHIR R4 bundle (4.0.1), plain JSON.

A transaction that a server takes as it is: a DiagnosticReport, which is preliminary until a
physician confirms it, its Observations, and the software as a Device. What cannot be told is
absent, with a reason, and no number stands for it.

Codes are of LOINC and SNOMED CT where there is one for just this; the others are of a system of
this project, with a text. A recorder's clock has no zone, and FHIR wants one beside an hour: times
are dates, and seconds from the recording's start.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from storage.recordings.identity import Identity

Element = dict[str, Any]
LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
#: The system of codes of this project.
LOCAL = "urn:holter-af:codes"
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
#: What is observed: system, code, and the words of that system, by our own names.
CODES: dict[str, tuple[str, str, str]] = {
    "study": (LOINC, "18754-2", "Ambulatory cardiac rhythm monitor (Holter) study"),
    "strip": (LOINC, "11524-6", "EKG study"),
    "rate": (LOINC, "8867-4", "Heart rate"),
    "af": (SNOMED, "164889003", "ECG: atrial fibrillation"),
    "burden": (LOCAL, "af-burden", "Share of the analysed time in atrial fibrillation"),
    "burden-low": (LOCAL, "af-burden-low", "The burden if nothing that cannot be told is AF"),
    "burden-high": (LOCAL, "af-burden-high", "The burden if all that cannot be told is AF"),
    "count": (LOCAL, "af-episodes", "Episodes of AF of 30 s or more"),
    "longest": (LOCAL, "af-longest", "Longest episode of AF"),
    "start": (LOCAL, "episode-start", "Start, from the recording's start"),
    "end": (LOCAL, "episode-end", "End, from the recording's start"),
    "recorded": (LOCAL, "recorded-time", "Recorded time"),
    "analysed": (LOCAL, "analysed-time", "Analysed time"),
    "untold": (LOCAL, "untold-time", "Analysed time of which the rhythm cannot be told"),
}
#: Units by their codes of UCUM, as people write them.
UNITS = {"%": "%", "/min": "beats/minute", "s": "s", "h": "h"}
GENDERS = {"M": "male", "F": "female", "O": "other"}
#: A shorter recording is no Holter study.
HOLTER_HOURS = 1.0
#: Shorter episodes are in the burden, and no Observation of their own.
LEAST_S = 30.0
UNTOLD_EPISODE = "less than half of its beats are told"


def fhir_bundle(
    figures: Mapping[str, Any],
    conclusion: str,
    software: str,
    pdf: bytes | None = None,
    identity: Identity | None = None,
) -> Element:
    """The bundle of one recording.

    Parameters
    ----------
    figures : mapping
        As of `tasks.analysis.analyse.summary`.
    conclusion : str
        The answer in words.
    software : str
        This program's version.
    pdf : bytes, optional
        The report as PDF, to go with it.
    identity : Identity, optional
        Who it is of; the bundle names nobody without it.

    Returns
    -------
    dict
        A `Bundle` of type transaction; the same analysis gives the same one.
    """
    key = repr((sorted(figures["files_sha256"].items()), figures["model"], software, identity))
    links = _Links(key)
    subject = {"reference": links.of("patient")} if identity else {"display": "withheld"}
    common = {"status": "preliminary", "subject": subject, **_period(figures)}
    device = {"device": {"reference": links.of("device")}}
    observations = [
        {"resourceType": "Observation", **common, **device, **part}
        for part in [
            _finding(figures),
            _burden(figures),
            _count(figures),
            *_rate(figures),
            *_episodes(figures),
        ]
    ]
    report = {
        "resourceType": "DiagnosticReport",
        "text": _narrative(conclusion),
        "identifier": [
            {"system": "urn:holter-af:sha256", "value": digest}
            for digest in figures["files_sha256"].values()
        ],
        **{name: part for name, part in common.items() if not name.startswith("_")},
        "category": [_concept((f"{TERMINOLOGY}/v2-0074", "EC", "Electrocardiac"))],
        "code": _code(study_of(figures["hours"])),
        "result": [
            {"reference": links.of(f"observation {number}")} for number in range(len(observations))
        ],
        "conclusion": conclusion,
        **_attachment(pdf),
    }
    resources = {"report": report, "device": _device(figures, software)}
    resources |= {"patient": _patient(identity)} if identity else {}
    resources |= {f"observation {number}": part for number, part in enumerate(observations)}
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": links.of(name),
                "resource": resource,
                "request": {"method": "POST", "url": resource["resourceType"]},
            }
            for name, resource in resources.items()
        ],
    }


def study_of(hours: float) -> str:
    """What a recording is a study of, by its length: a name of `CODES`."""
    return "study" if hours >= HOLTER_HOURS else "strip"


class _Links:
    """Addresses of a bundle's resources within it, from what the bundle is of."""

    def __init__(self, key: str) -> None:
        self._key = key

    def of(self, name: str) -> str:
        """The address of a resource."""
        return f"urn:uuid:{uuid5(NAMESPACE_OID, f'{self._key} {name}')}"


def _finding(figures: Mapping[str, Any]) -> Element:
    """Whether AF of 30 s or more is told."""
    head = {"category": _category("procedure"), "code": _code("af", "AF of 30 s or more")}
    has_af = any(episode["state"] == "AF" for episode in _long(figures))
    if figures["cannot_tell"]:
        return head | _absent(figures["cannot_tell"])
    if not has_af and figures["cannot_tell_s"]:
        return head | _absent(f"the rhythm of {figures['cannot_tell_s']:.0f} s cannot be told")
    return head | {"valueBoolean": has_af}


def _burden(figures: Mapping[str, Any]) -> Element:
    head = {"category": _category("procedure"), "code": _code("burden")}
    times = {
        "recorded": 3600 * figures["hours"],
        "analysed": 3600 * figures["analysable_hours"],
        "untold": figures["cannot_tell_s"],
    }
    components = [
        {"code": _code(name), "valueQuantity": _quantity(value, "s")}
        for name, value in times.items()
    ]
    if figures["cannot_tell"]:
        return head | _absent(figures["cannot_tell"]) | {"component": components}
    limits = {"burden-low": figures["af_burden_low"], "burden-high": figures["af_burden_high"]}
    bounds = [
        {"code": _code(name), "valueQuantity": _quantity(100 * value, "%")}
        for name, value in limits.items()
    ]
    value = _quantity(100 * figures["af_burden"], "%")
    return head | {"valueQuantity": value, "component": bounds + components}


def _count(figures: Mapping[str, Any]) -> Element:
    head = {"category": _category("procedure"), "code": _code("count")}
    if figures["cannot_tell"]:
        return head | _absent(figures["cannot_tell"])
    longest = {"code": _code("longest"), "valueQuantity": _quantity(figures["longest_af_s"], "s")}
    return head | {"valueInteger": figures["episodes_of_30_s"], "component": [longest]}


def _rate(figures: Mapping[str, Any]) -> list[Element]:
    """The mean heart rate as FHIR's profile of vital signs wants it, where there is one."""
    rate = figures["mean_heart_rate_bpm"]
    if rate is None:
        return []
    head = {"category": _category("vital-signs"), "code": _code("rate", "Mean heart rate")}
    return [head | {"valueQuantity": _quantity(rate, "/min")}]


def _episodes(figures: Mapping[str, Any]) -> list[Element]:
    """An Observation for each episode of 30 s or more, told or not."""
    if figures["cannot_tell"]:
        return []
    out = []
    for episode in _long(figures):
        value = {"valueBoolean": True} if episode["state"] == "AF" else _absent(UNTOLD_EPISODE)
        part = {
            "category": _category("procedure"),
            "code": _code("af", "An episode of AF"),
            **value,
            "component": [
                {"code": _code(name), "valueQuantity": _quantity(episode[f"{name}_s"], "s")}
                for name in ("start", "end")
            ],
        }
        out.append(part)
    return out


def _long(figures: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        episode
        for episode in figures["episodes"]
        if episode["end_s"] - episode["start_s"] >= LEAST_S
    ]


def _period(figures: Mapping[str, Any]) -> Element:
    """The days of the recording; why there are none where its header has no date."""
    if not figures["start"]:
        extension = [{"url": ABSENT, "valueCode": "unknown"}]
        return {"_effectiveDateTime": {"extension": extension}}
    start = datetime.fromisoformat(figures["start"])
    end = start + timedelta(hours=figures["hours"])
    return {"effectivePeriod": {"start": start.date().isoformat(), "end": end.date().isoformat()}}


def _device(figures: Mapping[str, Any], software: str) -> Element:
    model = figures["model"]
    versions = {"Holter AF": software, f"network {model['name']}, SHA-256": model["sha256"]}
    return {
        "resourceType": "Device",
        "deviceName": [{"name": "Holter AF", "type": "user-friendly-name"}],
        "type": {"text": "Software that finds atrial fibrillation in ECG; research only"},
        "version": [{"type": {"text": name}, "value": value} for name, value in versions.items()],
    }


def _patient(identity: Identity) -> Element:
    family, _, rest = identity.name.partition("^")
    first_names = [word for word in rest.split("^")[0].split(" ") if word]
    name: Element = {"family": family} if family else {}
    name |= {"given": first_names} if first_names else {}
    date = identity.birth_date
    out: Element = {"resourceType": "Patient", "identifier": [{"value": identity.patient}]}
    out |= {"name": [name]} if name else {}
    out |= {"gender": GENDERS[identity.sex]} if identity.sex in GENDERS else {}
    if len(date) == 8 and date.isascii() and date.isdecimal():
        out["birthDate"] = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    return out


def _attachment(pdf: bytes | None) -> Element:
    if not pdf:
        return {}
    form = {"contentType": "application/pdf", "title": "Holter AF: report"}
    return {"presentedForm": [form | {"data": b64encode(pdf).decode()}]}


def _narrative(text: str) -> Element:
    lines = "".join(f"<p>{escape(line)}</p>" for line in text.splitlines())
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{lines}</div>'
    return {"status": "generated", "div": div}


def _absent(reason: str) -> Element:
    """What stands in a value's place: that it is not known, and why."""
    coding = (f"{TERMINOLOGY}/data-absent-reason", "unknown", "Unknown")
    return {"dataAbsentReason": _concept(coding, reason)}


def _category(code: str) -> list[Element]:
    return [_concept((f"{TERMINOLOGY}/observation-category", code, ""))]


def _code(name: str, text: str = "") -> Element:
    return _concept(CODES[name], text or CODES[name][2])


def _concept(coding: Sequence[str], text: str = "") -> Element:
    system, code, display = coding
    entry = {"system": system, "code": code, **({"display": display} if display else {})}
    return {"coding": [entry], **({"text": text} if text else {})}


def _quantity(value: float, unit: str) -> Element:
    return {"value": float(value), "unit": UNITS[unit], "system": UCUM, "code": unit}
