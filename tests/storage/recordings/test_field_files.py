"""Files as recorders, old discs and Windows write them: names, letters, units, leads and ends."""

from __future__ import annotations

import codecs
import os
import struct
import time
from binascii import crc_hqx
from pathlib import Path

import edfio
import numpy as np
import pytest

from flows.cli.data_sets.add_answers import _from_csv
from storage.datasets.dataset import DatasetSpec, load_spec, record_names
from storage.errors import ChecksumMismatch, HeaderMismatch, NoLead, UnsafeName
from storage.formats.checksums import read_sums, records_of, verify_checksums
from storage.formats.lead_names import per_mv, plain, rank
from storage.formats.leads import JoinedLead, choose
from storage.formats.wfdb_annotation import encode_annotations, parse_annotations
from storage.formats.wfdb_header import parse_header
from storage.recordings.arrivals import look
from storage.recordings.check import check_record
from storage.recordings.records import Record, open_alone, open_record, read_lead
from storage.recordings.survey import survey
from storage.text import decimal, decode_text, lines
from tasks.proposals.proposal import propose
from tests.storage.recordings.test_holter_formats import FS_HZ, dataset, ishne_bytes, patch

SECONDS = 20
ECG = np.round(np.sin(np.arange(SECONDS * FS_HZ) / 7) * 200) / 200


def write_edf(path: Path, *labels: str, unit: str = "mV", plus: bool = False) -> None:
    """Twenty seconds of a wave under every label."""
    signals = [
        edfio.EdfSignal((n + 1) * ECG, FS_HZ, label=label, physical_dimension=unit)
        for n, label in enumerate(labels)
    ]
    notes = [edfio.EdfAnnotation(3.0, None, "a note")] if plus else None
    edfio.Edf(signals, annotations=notes).write(path)


def write_wfdb(folder: Path, name: str, *leads: str, head: str = "{}", end: str = "\n") -> None:
    """The same as WFDB of format 16, its lines ended as they are to be."""
    stored = np.rint(np.outer(ECG * 200, np.arange(1, len(leads) + 1))).astype("<i2")
    (folder / f"{name}.dat").write_bytes(stored.tobytes())
    text = [head.format(f"{name} {len(leads)} {FS_HZ} {len(ECG)}").replace("\n", end)]
    sums = (stored.astype(int).sum(axis=0) % 65536).tolist()
    text += [f"{name}.dat 16 200/mV 16 0 0 {sums[n]} 0 {lead}" for n, lead in enumerate(leads)]
    (folder / f"{name}.hea").write_bytes((end.join(text) + end).encode())


def timed(data: bytes, onsets_s: list[float], decimals: int = 5, per_record: int = FS_HZ) -> bytes:
    """An EDF+ of one lead as EDF+D, its data records at these times."""
    size, tal = 2 * per_record, len(data[256 * 3 :]) // len(onsets_s) - 2 * per_record
    out = bytearray(data.replace(b"EDF+C", b"EDF+D"))
    for number, onset_s in enumerate(onsets_s):
        at = 256 * 3 + number * (size + tal) + size
        out[at : at + tal] = f"+{onset_s:.{decimals}f}\x14\x14\0".encode().ljust(tal, b"\0")
    return bytes(out)


def spec(form: str, *prefer: str, **records: str) -> DatasetSpec:
    """A data set whose beats are found and whose rhythm nobody marked."""
    return DatasetSpec.model_validate(
        {
            **dict.fromkeys(("title", "version", "licence", "citation"), "x"),
            "name": "field",
            "records": {"format": form, **(records or {"pattern": "**/*"})},
            "annotations": {"beats": ["detect"]},
            "leads": {"prefer": prefer or ("II",)},
            "rhythms": {"af": ["AFIB"], "map": {"AFIB": "AFIB"}, "unmarked": "N"},
        }
    )


def agreed(folder: Path, form: str, file: str) -> Record:
    """The record as `analyse` opens it, which check and ingest read by what `add` proposes."""
    proposal = propose(survey(folder))
    assert "leads" not in proposal.doubts
    proposed = spec(form, *proposal.values["leads"]["prefer"], **proposal.values["records"])
    alone = open_alone(folder / file)
    (name,) = record_names(proposed, folder)
    check = check_record(proposed, folder, name, signal=True)
    assert (check.problem, check.lead) == (None, alone.lead)
    assert open_record(proposed, folder, name).source == alone.source
    return alone


@pytest.mark.parametrize(
    ("labels", "lead"),
    [
        (["ECG II"], "ECG II"),
        (["EKG"], "EKG"),
        (["ecg"], "ecg"),
        (["ekg 2", "ecg ch1"], "ecg ch1"),
        (["V5", "Lead II, limb"], "Lead II, limb"),
        (["V5", "MDC_ECG_LEAD_II"], "MDC_ECG_LEAD_II"),
        (["Resp", "EMG", "EEG Fp1", "SpO2", "ECG V1"], "ECG V1"),
        (["ECG annotations", "ECG quality", "ECG HR", "aVF"], "aVF"),
        (["EKG II", "II"], "II"),
        (["", "Resp"], "record rec, signal 0"),
        (["C3-A2", "channel 1"], "channel 1"),
        (["ECG LA-RA", "unknown"], "ECG LA-RA"),
    ],
)
def test_one_matcher_of_leads(labels: list[str], lead: str, tmp_path: Path) -> None:
    """Check, add, ingest and analyse read one lead of a file, and never one of another kind."""
    write_edf(tmp_path / "rec.edf", *labels)
    record = agreed(tmp_path, "edf", "rec.edf")
    assert record.lead == lead
    place = labels.index(lead if lead in labels else "")
    np.testing.assert_allclose(read_lead(record), (place + 1) * ECG, atol=1e-3)


@pytest.mark.parametrize("labels", [["EMG"], ["C3-A2", "O1"], ["Flow", "ECG annotations"], ["Foo"]])
def test_what_may_be_no_ecg_is_asked_about(labels: list[str], tmp_path: Path) -> None:
    """Where no name tells of an ECG, analyse names the signals, and add asks for the lead."""
    write_edf(tmp_path / "rec.edf", *labels)
    with pytest.raises(NoLead, match=f"leads {labels[0]!r}.*an ECG, by name and unit"):
        open_alone(tmp_path / "rec.edf")
    assert "leads" in propose(survey(tmp_path)).doubts
    assert open_alone(tmp_path / "rec.edf", labels[:1]).lead == labels[0]


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        (["II"], 3),
        (["V5", "II"], 1),
        (["V9", "V5"], 1),
        (["ECG V5"], 1),
        (["lead ii"], 3),
        (["*V*"], 1),
        (["EMG"], 0),
        (["*"], 3),
        ([], 3),
    ],
)
def test_a_wanted_lead_is_exact_then_in_other_spellings(wanted: list[str], number: int) -> None:
    """The name as it stands goes first, then other spellings and patterns, in order of wish."""
    signals = [("EMG", "mV"), ("V5", "mV"), ("ecg ii", "mmHg"), ("ECG II", "uV"), ("EKG II", "mV")]
    assert choose(signals, wanted, "rec", "rec.edf") == number


def test_a_lead_that_is_not_there_is_told_with_all_names_quoted() -> None:
    """A name that is empty, or of a unit that is no voltage, can be seen in the message."""
    with pytest.raises(NoLead, match=r"leads 'a b', 'II' in 'mmHg'; expected one of 'V1', 'V2'"):
        choose([("a b", "mV"), ("II", "mmHg")], ["V1", "V2"], "rec", "rec.edf")


def test_signals_without_description_are_called_as_wfdb_calls_them(tmp_path: Path) -> None:
    """The name of one record finds the like signal of another, and add proposes one for all."""
    for name in ("r1", "sub/r2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_wfdb((tmp_path / name).parent, Path(name).name, "", "")
    assert open_alone(tmp_path / "r1").lead == "record r1, signal 0"
    proposed = propose(survey(tmp_path)).values["leads"]["prefer"]
    assert proposed == ["signal 0"]
    for prefer in (proposed, ["record r1, signal 0"]):
        leads = [open_record(spec("wfdb", *prefer), tmp_path, n).lead for n in ("r1", "sub/r2")]
        assert leads == ["record r1, signal 0", "record r2, signal 0"]


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (99, 98)])
def test_an_ishne_lead_without_a_name(codes: tuple[int, int], tmp_path: Path) -> None:
    """A lead that ISHNE's header calls unknown, or by a code of nobody's, is read."""
    data = bytearray(ishne_bytes(np.stack([ECG, ECG], axis=1) * 400))
    struct.pack_into("<2h", data, 158, *codes)
    struct.pack_into("<H", data, 8, crc_hqx(bytes(data[10 : 522 + 14]), 0xFFFF))
    (tmp_path / "rec.ECG").write_bytes(data)
    np.testing.assert_allclose(read_lead(agreed(tmp_path, "ishne", "rec.ECG")), ECG, atol=3e-3)


def test_names_of_leads() -> None:
    """Standard texts, other alphabets and long descriptions come down to the field's names."""
    same = {"II": "ecg ii|EKG-II|ECG_II|ECGII|Lead II|DII|\u2161|Modified lead II, chest"}
    same["II"] += "|II-ECG|EKG, Abl. II"
    same |= {"ECG": "ecg|EKG|ECG.", "ECG1": "EKG 1|ECG ch1|ecg channel 1"}
    same |= {"V1": "mod.V1|ECG V1|V 1|V1 (EKG)"}
    same |= {"MLII": "ML II|ml-ii", "MCL1": "MCL-1", "I II": "I/II"}
    for name, spellings in same.items():
        assert {plain(spelling) for spelling in spellings.split("|")} == {name}
    for name in ("EMG", "Chin-EMG", "resp.", "SpO2", "NIBP", "EDF Annotations", "ECG lead off", ""):
        assert (plain(name), rank(name)) == ("", None)


@pytest.mark.parametrize(
    ("count", "units"),
    [
        (1.0, "mV|mv|MV| mV |[mV]|milliVolt|mVolt|millivolts"),
        (
            1e3,
            "uV|UV|\u00b5V|\u03bcV|\u039cV|microV|microvolts|mcV|uVolt|\u00e6V|\u00c2\u00b5V|\u00ce\u00bcV",
        ),
        (1e-3, "V|v|Volt|volts"),
        (1e6, "nV|NV|nanovolt"),
        (None, "|mmHg|kV|%|bpm|?V|\ufffdV|Ohm|mVs|W" + "v" * 5000),
    ],
)
def test_units(count: float | None, units: str) -> None:
    """A unit is read in any spelling that can mean but one; what may be another is not guessed."""
    assert {per_mv(unit) for unit in units.split("|")} == {count}


@pytest.mark.parametrize(
    "unit", [b"\xc2\xb5V", b"\xce\xbcV", b"\xb5V", b"\xe6V", b"uV\0\0", b"microV", b"UV", b"\0uV"]
)
def test_microvolts_of_an_edf(unit: bytes, tmp_path: Path) -> None:
    """The micro sign in UTF-8, Latin-1 or DOS's letters, and NUL in place of spaces: microvolts."""
    write_edf(tmp_path / "rec.edf", "II", unit="mV")
    patch("rec.edf", b"mV      ", unit.ljust(8, b" "))(tmp_path)
    found = read_lead(agreed(tmp_path, "edf", "rec.edf"))
    np.testing.assert_allclose(found * 1000, ECG, atol=1e-3)


@pytest.mark.parametrize("coding", ["utf-8", "latin-1"])
def test_microvolts_of_a_wfdb_header(coding: str, tmp_path: Path) -> None:
    """A header's letters are UTF-8 or, where they cannot be, Latin-1; so are its comments."""
    write_wfdb(tmp_path, "rec", "II")
    text = (tmp_path / "rec.hea").read_text().replace("/mV", "/\u00b5V") + "# Gr\u00f6\u00dfe 180\n"
    (tmp_path / "rec.hea").write_bytes(text.encode(coding))
    record = agreed(tmp_path, "wfdb", "rec.hea")
    assert record.comments == ("Gr\u00f6\u00dfe 180",)
    np.testing.assert_allclose(read_lead(record) * 1000, ECG, atol=1e-3)


BREAKS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_header_s_lines_end_at_lf_alone(coding: str, end: str, tmp_path: Path) -> None:
    """Other line separators are letters of a text, a byte order mark is none, DOS's end is none."""
    write_wfdb(tmp_path, "rec", f"II{BREAKS}x", "V5", head="# exported\n{}", end=end)
    text = (tmp_path / "rec.hea").read_bytes().decode() + f"# a{BREAKS}b{end}\x1a"
    (tmp_path / "rec.hea").write_bytes(text.encode(coding))
    header = parse_header((tmp_path / "rec.hea").read_bytes(), "rec", "rec.hea")
    assert header.comments == ("exported", f"a{BREAKS}b")
    assert [one.lead for one in header.signals] == [f"II{' ' * len(BREAKS)}x", "V5"]


def test_text_of_others() -> None:
    """Byte order marks go wherever they stand, UTF-16 is told by its own, padding is no text."""
    assert decode_text(codecs.BOM_UTF8 + b"a\n" + codecs.BOM_UTF8 + b"b") == "a\nb"
    assert decode_text("ä".encode("utf-16")) == decode_text("ä".encode("latin-1")) == "ä"
    assert lines(b"a\r\n b\x85 c \x0b d\n\0\x1a\x1a") == ["a", "b\x85 c \x0b d", ""]
    assert decode_text(b"\xff\xfeodd") == "\xff\xfeodd"


@pytest.mark.parametrize(
    "text", ["1_0", "1,500", "-2,048", "nan", "inf", "1e999", "", "1.2.3", "\u0663"]
)
def test_what_is_no_number(text: str) -> None:
    """A comma that may part thousands, and what only Python reads as a number, are refused."""
    with pytest.raises(ValueError, match="expected a"):
        decimal(text)


@pytest.mark.parametrize(
    ("text", "value"), [("0,5", 0.5), ("-3276,8", -3276.8), ("1e3", 1e3), (".5", 0.5)]
)
def test_a_decimal_comma(text: str, value: float) -> None:
    """A comma that can only be a decimal one is."""
    assert decimal(text) == value


def test_header_fields_of_an_edf_are_read_or_named(tmp_path: Path) -> None:
    """Fields padded by NUL and with a decimal comma are read; one that is ambiguous is named."""
    write_edf(tmp_path / "rec.edf", "II")
    plain_mv = read_lead(open_alone(tmp_path / "rec.edf"))
    whole = (tmp_path / "rec.edf").read_bytes()
    low = whole[256 + 104 : 256 + 112]
    assert b"." in low or low.strip() == b"-1"
    head = whole[:512].replace(low, f"{float(low):.4f}".replace(".", ",").encode().ljust(8), 1)
    (tmp_path / "rec.edf").write_bytes(head.replace(b" ", b"\0") + whole[512:])
    np.testing.assert_array_equal(read_lead(open_alone(tmp_path / "rec.edf")), plain_mv)
    head = whole[: 256 + 104] + b"-1,000  " + whole[256 + 112 : 512]
    (tmp_path / "rec.edf").write_bytes(head + whole[512:])
    with pytest.raises(HeaderMismatch, match="physical minimum '-1,000'; expected a number"):
        open_alone(tmp_path / "rec.edf")


def test_an_edf_whose_recorder_was_switched_off(tmp_path: Path) -> None:
    """Its length is that of its whole data records, and every reader of figures is told."""
    write_edf(tmp_path / "rec.edf", "II", plus=True)
    whole = read_lead(open_alone(tmp_path / "rec.edf"))
    path = tmp_path / "rec.edf"
    path.write_bytes(path.read_bytes().replace(b"20      1 ", b"-1      1 ")[:-30])
    check = check_record(spec("edf"), tmp_path, "rec", signal=True)
    assert check.problem is None
    assert check.warnings == (
        "rec.edf was not closed: its length is that of its 19 whole data records",
    )
    np.testing.assert_array_equal(read_lead(open_alone(path)), whole[: 19 * FS_HZ])


@pytest.mark.parametrize("ppm", [-50, 50, -3000])
def test_a_clock_that_drifts_makes_no_gap(ppm: int, tmp_path: Path) -> None:
    """Data records whose times are off by less than a sample follow one another, however many."""
    write_edf(tmp_path / "rec.edf", "II", plus=True)
    path = tmp_path / "rec.edf"
    whole = read_lead(open_alone(path))
    clock = 1 + ppm / 1e6
    onsets_s = [second * clock + (7.5 if second > 10 else 0) for second in range(SECONDS)]
    path.write_bytes(timed(path.read_bytes(), onsets_s))
    record = open_alone(path)
    assert isinstance(record.source, JoinedLead)
    found = read_lead(record)
    gap = slice(11 * FS_HZ, 11 * FS_HZ + round((6.5 + clock) * FS_HZ))
    assert np.isnan(found[gap]).all()
    np.testing.assert_array_equal(np.delete(found, gap), whole)


@pytest.mark.parametrize(
    ("duration_s", "ppm", "decimals"), [(12.0, -50, 5), (12.0, 50, 5), (0.25, 0, 1), (0.75, 0, 1)]
)
def test_long_data_records_and_rounded_times_make_no_gap(
    duration_s: float, ppm: int, decimals: int, tmp_path: Path
) -> None:
    """A clock may be off by samples in a long data record; times may be rounded to a decimal."""
    fs_hz, seconds = 2000, 60
    noise = np.random.default_rng(1).normal(size=seconds * fs_hz)
    signal = edfio.EdfSignal(noise, fs_hz, label="II", physical_dimension="mV")
    notes = [edfio.EdfAnnotation(3.0, None, "a note")]
    path = tmp_path / "rec.edf"
    edfio.Edf([signal], annotations=notes, data_record_duration=duration_s).write(path)
    whole = read_lead(open_alone(path))
    times_s = [number * duration_s * (1 + ppm / 1e6) for number in range(int(60 / duration_s))]
    data = timed(path.read_bytes(), times_s, decimals, int(fs_hz * duration_s))
    path.write_bytes(data)
    np.testing.assert_array_equal(read_lead(open_alone(path)), whole)


def test_a_clock_that_ran_far_away_is_told(tmp_path: Path) -> None:
    """A second of drift is no gap either; whoever reads times is told of it."""
    signal = edfio.EdfSignal(np.tile(ECG, 60), FS_HZ, label="II", physical_dimension="mV")
    path = tmp_path / "rec.edf"
    edfio.Edf([signal], annotations=[edfio.EdfAnnotation(3.0, None, "a note")]).write(path)
    path.write_bytes(timed(path.read_bytes(), [0.999 * second for second in range(1200)]))
    record = open_alone(path)
    assert record.n_samples == 1200 * FS_HZ
    assert "by -1.2 s to its end" in record.warnings[0]


@pytest.mark.parametrize("suffix", ["EDF", "Edf", "edf"])
def test_a_suffix_of_any_case(suffix: str, tmp_path: Path) -> None:
    """A recorder's NIGHT1.EDF is found by list, pattern, add, check and analyse, with its CSV."""
    write_edf(tmp_path / f"NIGHT.1.{suffix}", "II")
    (tmp_path / f"NIGHT.1.{suffix.upper().replace('EDF', 'CSV')}").write_text(
        "start_s,end_s,rhythm\n0,20,AFIB\n"
    )
    assert agreed(tmp_path, "edf", f"NIGHT.1.{suffix}").name == "NIGHT.1"
    assert propose(survey(tmp_path)).values["annotations"] == {"beats": ["detect"], "rhythm": "csv"}
    marked = dataset(tmp_path, "edf")
    assert open_record(marked, tmp_path, "NIGHT.1").rhythms.tolist() == ["AFIB"]


def test_a_disc_in_capitals(tmp_path: Path) -> None:
    """Headers name r1.dat, the disc holds R1.DAT, and RECORDS lists R1.HEA: one record, whole."""
    write_wfdb(tmp_path, "r1", "II")
    for suffix in ("hea", "dat"):
        (tmp_path / f"r1.{suffix}").rename(tmp_path / f"R1.{suffix.upper()}")
    (tmp_path / "RECORDS").write_bytes(b"\xef\xbb\xbfr1.HEA\r\n")
    listed = spec("wfdb", file="RECORDS")
    assert record_names(listed, tmp_path) == ["r1"]
    record = open_record(listed, tmp_path, "r1")
    assert set(record.digests) == {"R1.HEA", "R1.DAT"}
    np.testing.assert_allclose(read_lead(record), ECG, atol=1e-6)


def test_two_files_of_one_record_s_name(tmp_path: Path) -> None:
    """A record that two files may be, by the case of a suffix, is an error of its own."""
    write_edf(tmp_path / "rec.edf", "II")
    write_edf(tmp_path / "rec.EDF", "II")
    check = check_record(spec("edf"), tmp_path, "rec", signal=True)
    assert "files 'rec.edf' and 'rec.EDF'; expected one" in (check.problem or "")


def test_lists_as_windows_writes_them(tmp_path: Path) -> None:
    """Backslashes part folders, UTF-16 is PowerShell's; what leads out is refused all the same."""
    (tmp_path / "RECORDS").write_text("af\\r1\r\n.\\r2.edf\r\n..\\out\r\n", encoding="utf-16")
    names = record_names(spec("edf", file="RECORDS"), tmp_path)
    assert names == ["af/r1", "r2", "../out"]
    with pytest.raises(UnsafeName):
        open_record(spec("edf"), tmp_path, "../out")
    sums = "\ufeff" + "a" * 64 + " *af\\r1.edf\r\n" + "b" * 64 + "  ./x\u2028y.edf\r\n"
    (tmp_path / "SHA256SUMS.txt").write_text(sums, encoding="utf-8", newline="")
    assert read_sums(tmp_path) == {"af/r1.edf": "a" * 64, "x\u2028y.edf": "b" * 64}


def test_a_toml_and_a_list_of_subjects_from_windows(tmp_path: Path) -> None:
    """A byte order mark, UTF-16 and CR LF are no error of what a user wrote."""
    dataset(tmp_path, "edf")
    toml = tmp_path / "dataset.toml"
    toml.write_bytes(toml.read_text().replace("\n", "\r\n").encode("utf-8-sig"))
    assert load_spec(tmp_path).records.format == "edf"
    table = tmp_path / "who.csv"
    table.write_bytes("record,subject\r\naf\\r1,Gr\u00f6\r\n".encode("utf-16"))
    assert _from_csv(table, ["af/r1"]) == {"af/r1": "Gr\u00f6"}


def test_dots_in_names(tmp_path: Path) -> None:
    """A date in a record's name is no suffix: its files are its own, and no other record's are."""
    for name in ("2026.11.29_p01", "2026.11.30_p01", "2026.11.29_p01.b"):
        write_edf(tmp_path / f"{name}.edf", "II")
        (tmp_path / f"{name}.csv").write_text("start_s,end_s,rhythm\n0,20,AFIB\n")
    found = survey(tmp_path)
    assert [one.annotators["csv"].rhythms for one in found.records] == [{"AFIB": 1}] * 3
    names = {one.name for one in found.records}
    assert set(record_names(spec("edf", pattern="*"), tmp_path)) == names
    assert open_alone(tmp_path / "2026.11.29_p01.edf").name == "2026.11.29_p01"
    sums = "".join(f"{'0' * 64}  2026.11.29_p01.b.{end}\n" for end in ("edf", "csv"))
    (tmp_path / "SHA256SUMS.txt").write_text(sums)
    assert verify_checksums(tmp_path, "2026.11.30_p01") is None
    with pytest.raises(ChecksumMismatch):
        verify_checksums(tmp_path, "2026.11.29_p01.b")
    assert records_of("a/b.1.rhythm.csv") == ["a/b.1.rhythm", "a/b.1"]


def test_a_name_that_no_disk_holds(tmp_path: Path) -> None:
    """A header that names a file of a thousand letters fails its record, with a sentence."""
    (tmp_path / "rec.hea").write_text(f"rec 1 250 100\n{'x' * 1000} 16 200 16 0 0 0 0 II\n")
    check = check_record(spec("wfdb"), tmp_path, "rec", signal=True)
    assert "expected a name inside the data set's folder" in (check.problem or "")


def test_watched_names_are_no_patterns(tmp_path: Path) -> None:
    """Brackets, spaces and stars in a name are letters; each record waits for its own files."""
    names = ["night[1]", "night 2", "night*", "p", "p_2"]
    watched = tmp_path / "ward[7]"
    watched.mkdir()
    for name in names:
        write_edf(watched / f"{name}.edf", "II")
        age(watched / f"{name}.edf", 3600)
    first = look(spec("edf"), watched, {}, 60, signal=True)
    assert set(first.ready) == set(names)
    last = look(spec("edf"), watched, first.states, 60, signal=True)
    assert last.ready == ()
    for name in ("night[1]", "p_2"):
        age(watched / f"{name}.edf", 0)
        last = look(spec("edf"), watched, last.states, 60, signal=True)
        assert (last.ready, set(last.waiting)) == ((), {name})
        age(watched / f"{name}.edf", 1800)
        last = look(spec("edf"), watched, last.states, 60, signal=True)
        assert last.ready == (name,)


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_proposed_pattern_finds_the_names_it_came_from(tmp_path: Path) -> None:
    """What all names begin with is taken as it stands, brackets and all."""
    for name in ("w[7]_1", "w[7]_2"):
        write_edf(tmp_path / f"{name}.edf", "II")
    records = propose(survey(tmp_path)).values["records"]
    assert record_names(spec("edf", pattern=records["pattern"]), tmp_path) == ["w[7]_1", "w[7]_2"]


@pytest.mark.parametrize(
    ("symbols", "texts", "told"),
    [
        ("NN", {0: "x" * 256}, "at most 255 bytes"),
        ("NN", {0: "\u00e9" * 128}, "at most 255 bytes"),
        ("NN", {1: "a\0b"}, "none of them NUL"),
        ("NN", {2: "x"}, "a text of annotation 2"),
        ("NN", {-1: "x"}, "a text of annotation"),
        ("N", {}, "1 symbols; expected 2"),
        ("NZ", {}, "the symbol 'Z'"),
    ],
)
def test_what_an_annotation_file_cannot_hold(
    symbols: str, texts: dict[int, str], told: str
) -> None:
    """It is refused by the writer; a text of 255 bytes is kept whole."""
    sample = np.array([5, 9])
    with pytest.raises(ValueError, match=told):
        encode_annotations(sample, list(symbols), texts)
    longest = {0: "x" * 255, 1: "\u00e9" * 127}
    assert (
        parse_annotations(encode_annotations(sample, list("NN"), longest), "r", "f").aux == longest
    )
