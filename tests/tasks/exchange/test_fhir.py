"""The answer as a FHIR bundle: what fhir.resources takes, with the figures of the analysis."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from flows.ingest.simulate import write_simulated
from storage.errors import RecordError
from storage.files import read_json
from storage.recordings.identity import Identity
from tasks.analysis.analyse import from_the_box
from tasks.analysis.answers import RecordAnswer
from tasks.analysis.command import analyse_recording
from tasks.analysis.exports import DICOM, FHIR
from tasks.analysis.many import Order
from tasks.exchange.fhir import CODES, LOCAL, fhir_bundle

EVA = Identity("ward-7", "Müller^Eva Maria^Dr", "19500102", "F")
FIGURES: dict[str, Any] = {
    "files_sha256": {"r.hea": "ab" * 32, "r.dat": "cd" * 32},
    "model": {"name": "rhythm", "sha256": "ef" * 32},
    "start": "2026-03-04T23:30:05",
    "hours": 1.0,
    "analysable_hours": 0.9,
    "cannot_tell": None,
    "cannot_tell_s": 60.0,
    "af_burden": 0.11,
    "af_burden_low": 0.1,
    "af_burden_high": 0.125,
    "af_s": 356.4,
    "longest_af_s": 290.0,
    "episodes_of_30_s": 2,
    "mean_heart_rate_bpm": 71.5,
    "episodes": [
        {"start_s": 10.0, "end_s": 300.0, "told": 1.0, "state": "AF"},
        {"start_s": 400.0, "end_s": 440.0, "told": 0.2, "state": "cannot tell"},
        {"start_s": 500.0, "end_s": 526.4, "told": 1.0, "state": "AF"},
    ],
}
NOTHING: dict[str, Any] = {"af_burden": None, "af_burden_low": None, "af_burden_high": None}
NOTHING |= {"cannot_tell": "found 4.0 s that can be analysed; expected at least 10 s"}


def bundle_of(identity: Identity | None = None, **figures: Any) -> dict[str, list[dict[str, Any]]]:
    """The resources of a bundle by their kind, once a validator has taken it, JSON and back."""
    made = fhir_bundle(
        FIGURES | figures, "AF in 11 % <of> it.\nNot a diagnosis.", "1.0", b"%PDF", identity
    )
    document = json.loads(json.dumps(made, allow_nan=False))
    Bundle.model_validate(document)
    links = [entry["fullUrl"] for entry in document["entry"]]
    assert len(set(links)) == len(links)
    used = [part["reference"] for part in parts(document) if "reference" in part]
    assert set(used) <= set(links)
    out: dict[str, list[dict[str, Any]]] = {}
    for entry in document["entry"]:
        assert entry["request"] == {"method": "POST", "url": entry["resource"]["resourceType"]}
        out.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
    return out


def parts(document: Any) -> list[dict[str, Any]]:
    """Every object within a document."""
    if isinstance(document, list):
        return [part for item in document for part in parts(item)]
    if not isinstance(document, dict):
        return []
    return [document, *(part for item in document.values() for part in parts(item))]


def observed(observations: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The first observation of one of our names."""
    code = CODES[name][1]
    return next(o for o in observations if o["code"]["coding"][0]["code"] == code)


def components(observation: dict[str, Any]) -> dict[str, float]:
    return {
        part["code"]["coding"][0]["code"]: part["valueQuantity"]["value"]
        for part in observation["component"]
    }


def test_figures_are_those_of_the_analysis() -> None:
    """Burden with its limits, rate, episodes of 30 s or more, each by its code and unit."""
    resources = bundle_of()
    observations = resources["Observation"]
    burden = observed(observations, "burden")
    assert burden["valueQuantity"]["value"] == pytest.approx(11.0)
    assert (burden["valueQuantity"]["unit"], burden["valueQuantity"]["code"]) == ("%", "%")
    values = components(burden)
    assert values["af-burden-low"] == pytest.approx(10)
    assert values["af-burden-high"] == pytest.approx(12.5)
    assert (values["recorded-time"], values["analysed-time"]) == (3600, 3240)
    assert values["untold-time"] == 60
    rate = observed(observations, "rate")
    assert (rate["valueQuantity"]["value"], rate["valueQuantity"]["code"]) == (71.5, "/min")
    assert rate["category"][0]["coding"][0]["code"] == "vital-signs"
    count = observed(observations, "count")
    assert (count["valueInteger"], components(count)) == (2, {"af-longest": 290.0})
    episodes = [o for o in observations if o["code"]["text"] == "An episode of AF"]
    assert [components(o) for o in episodes] == [
        {"episode-start": 10.0, "episode-end": 300.0},
        {"episode-start": 400.0, "episode-end": 440.0},
    ]
    assert [o.get("valueBoolean") for o in episodes] == [True, None]
    assert "dataAbsentReason" in episodes[1]
    assert observed(observations, "af")["valueBoolean"] is True
    (report,) = resources["DiagnosticReport"]
    assert len(report["result"]) == len(observations) == 6
    assert report["status"] == "preliminary"
    assert report["code"]["coding"][0]["code"] == "18754-2"
    (strip,) = bundle_of(hours=0.9)["DiagnosticReport"]
    assert strip["code"]["coding"][0]["code"] == "11524-6"
    assert report["conclusion"].startswith("AF in 11 %")
    assert "&lt;of&gt;" in report["text"]["div"]
    assert b64decode(report["presentedForm"][0]["data"]) == b"%PDF"


def test_what_cannot_be_told_is_absent_with_its_reason() -> None:
    """No number, no yes and no no; the reason stands there in words."""
    observations = bundle_of(**NOTHING, mean_heart_rate_bpm=None)["Observation"]
    assert len(observations) == 3
    for name in ("af", "burden", "count"):
        observation = observed(observations, name)
        assert not {"valueBoolean", "valueQuantity", "valueInteger"} & set(observation)
        reason = observation["dataAbsentReason"]
        assert reason["coding"][0]["code"] == "unknown"
        assert reason["text"] == NOTHING["cannot_tell"]
    assert "af-burden-low" not in components(observed(observations, "burden"))


def test_no_af_is_told_where_all_of_it_is_told() -> None:
    """Beside time that cannot be told, "no AF" is not said."""
    short = FIGURES["episodes"][2:]
    told = observed(bundle_of(episodes=short, cannot_tell_s=0.0)["Observation"], "af")
    assert told["valueBoolean"] is False
    untold = observed(bundle_of(episodes=short)["Observation"], "af")
    assert "valueBoolean" not in untold
    assert "60 s cannot be told" in untold["dataAbsentReason"]["text"]


def test_times_have_no_zone_and_no_hour() -> None:
    """A recorder's clock has no zone, and FHIR wants one beside an hour: the days are told."""
    resources = bundle_of()
    for resource in resources["Observation"] + resources["DiagnosticReport"]:
        assert resource["effectivePeriod"] == {"start": "2026-03-04", "end": "2026-03-05"}
    undated = bundle_of(start=None)
    for observation in undated["Observation"]:
        assert observation["_effectiveDateTime"]["extension"][0]["valueCode"] == "unknown"
    assert "23:30" not in json.dumps(resources)


def test_nobody_is_named_unasked() -> None:
    """Patient and references to one are there only with an identity; all else is the same."""
    resources = bundle_of()
    assert "Patient" not in resources
    assert {o["subject"].get("reference") for o in resources["Observation"]} == {None}
    named = bundle_of(EVA)
    (patient,) = named["Patient"]
    assert patient["identifier"] == [{"value": "ward-7"}]
    assert patient["name"] == [{"family": "Müller", "given": ["Eva", "Maria"]}]
    assert (patient["birthDate"], patient["gender"]) == ("1950-01-02", "female")
    assert all("reference" in o["subject"] for o in named["Observation"])
    odd = Identity("x", "", "195", "?")
    assert bundle_of(odd)["Patient"] == [
        {"resourceType": "Patient", "identifier": [{"value": "x"}]}
    ]


def test_one_analysis_gives_one_bundle() -> None:
    """Byte for byte; another recording or network has other addresses."""
    same = [json.dumps(fhir_bundle(FIGURES, "c", "1")) for _ in range(2)]
    assert same[0] == same[1]
    other = fhir_bundle(FIGURES | {"files_sha256": {"r.dat": "00" * 32}}, "c", "1")
    mine = {entry["fullUrl"] for entry in fhir_bundle(FIGURES, "c", "1")["entry"]}
    assert not mine & {entry["fullUrl"] for entry in other["entry"]}


def luhn(digits: str) -> int:
    """The check digit of LOINC."""
    doubled = [int(digit) * (2 if k % 2 == 0 else 1) for k, digit in enumerate(reversed(digits))]
    return -sum(sum(divmod(number, 10)) for number in doubled) % 10


def verhoeff(digits: str) -> int:
    """0 of a number of SNOMED CT with its check digit: steps in the group of a pentagon's turns."""
    turn = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    check = 0
    for k, digit in enumerate(map(int, reversed(digits))):
        for _ in range(k % 8):
            digit = turn[digit]
        flip, step = divmod(digit, 5)
        side, place = divmod(check, 5)
        check = 5 * (side ^ flip) + (place + (-step if side else step)) % 5
    return check


def test_codes_are_of_a_terminology_or_ours() -> None:
    """A code of LOINC or SNOMED CT has its check digit; ours say so by their system."""
    for system, code, text in CODES.values():
        assert text
        if system == "http://loinc.org":
            body, _, digit = code.partition("-")
            assert luhn(body) == int(digit)
        elif system == "http://snomed.info/sct":
            assert verhoeff(code) == 0
        else:
            assert system == LOCAL
    assert verhoeff("49436004") == 0 != verhoeff("49436040")


def test_the_files_of_one_recording(tmp_path: Path) -> None:
    """Written beside the others, with the figures of its JSON; an identity that is not there ends
    it before any file."""
    write_simulated(tmp_path / "in", 1, 0.05, seed=2)
    answers: list[object] = []
    order = Order(tmp_path / "out", from_the_box("rhythm"), exports=(FHIR, DICOM))
    code = analyse_recording(
        tmp_path / "in" / "sim000.hea", order, lambda value, _: answers.append(value)
    )
    assert code == 0
    (answer,) = answers
    assert isinstance(answer, RecordAnswer)
    names = {Path(file).name for file in answer.files}
    assert {"sim000.fhir.json", "sim000.report.dcm", "sim000.pdf"} <= names
    document = read_json(tmp_path / "out" / "sim000.fhir.json")
    Bundle.model_validate(document)
    resources = [entry["resource"] for entry in document["entry"]]
    observations = [part for part in resources if part["resourceType"] == "Observation"]
    burden = observed(observations, "burden")["valueQuantity"]["value"]
    assert burden == pytest.approx(100 * (answer.af_burden or 0))
    assert "sim000" not in json.dumps(
        [{k: v for k, v in part.items() if k != "presentedForm"} for part in resources]
    )
    named = Order(tmp_path / "no", order.release, exports=(FHIR,), identity=True)
    with pytest.raises(RecordError, match="no number of a patient"):
        analyse_recording(tmp_path / "in" / "sim000.hea", named, lambda *_: None)
    assert not list(tmp_path.glob("no/*"))
