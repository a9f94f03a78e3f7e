"""When a recording began: what wfdb and edfio read of a header is what we read."""

from __future__ import annotations

import struct
from binascii import crc_hqx
from datetime import date, datetime, time
from pathlib import Path

import edfio
import numpy as np
import pytest
import wfdb

from storage.recordings.records import open_alone
from tests.storage.recordings.test_holter_formats import ishne_bytes

SAMPLES = np.sin(np.arange(2500) / 10)


def write_wfdb(folder: Path, **start: object) -> Path:
    signal = np.rint(200 * SAMPLES).astype(np.int16)[:, None]
    wfdb.wrsamp(
        "rec",
        fs=250,
        units=["mV"],
        sig_name=["II"],
        d_signal=signal,
        fmt=["16"],
        adc_gain=[200],
        baseline=[0],
        write_dir=str(folder),
        **start,
    )
    return folder / "rec"


@pytest.mark.parametrize("clock", [time(8, 30, 5), time(23, 59, 59, 250_000), time(0)])
def test_wfdb_has_wfdb_s_start(tmp_path: Path, clock: time) -> None:
    """Base date and time, fractions of a second too."""
    path = write_wfdb(tmp_path, base_time=clock, base_date=date(2003, 7, 18))
    expected = wfdb.rdheader(str(path)).base_datetime
    assert open_alone(path).start == expected == datetime.combine(date(2003, 7, 18), clock)


def test_a_time_without_a_date_is_no_start(tmp_path: Path) -> None:
    """Of which day it would be, nobody knows."""
    assert open_alone(write_wfdb(tmp_path, base_time=time(9))).start is None


NO_START: tuple[str, ...] = (
    "8:00:00 31/02/2003",
    "25:00:00 01/02/2003",
    "8:61:00 01/02/2003",
    "8:00 01/02",
)
NO_START += ("8:00:60 01/02/2003", "8:00:00 01/02/03", "8:00:00 00/00/0000", "today 01/02/2003")


@pytest.mark.parametrize("words", NO_START)
def test_what_no_calendar_has_is_unknown(tmp_path: Path, words: str) -> None:
    """A damaged start stops no analysis."""
    path = write_wfdb(tmp_path)
    header = path.with_suffix(".hea")
    lines = header.read_text().splitlines()
    header.write_text("\n".join([f"{lines[0]} {words}", *lines[1:]]) + "\n")
    assert open_alone(path).start is None


def write_edf(
    path: Path,
    day: date | None,
    clock: time,
    *,
    notes: bool = False,
    change: tuple[bytes, bytes] = (b"", b""),
) -> Path:
    signal = edfio.EdfSignal(SAMPLES, 250, label="II", physical_dimension="mV")
    annotations = [edfio.EdfAnnotation(1.0, None, "a note")] if notes else None
    recording = edfio.Recording(startdate=day)
    edf = edfio.Edf([signal], recording=recording, starttime=clock, annotations=annotations)
    edf.write(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(*change, 1) if change[0] else data)
    return path


@pytest.mark.parametrize("day", [date(1985, 1, 2), date(1999, 12, 31), date(2026, 3, 4)])
@pytest.mark.parametrize("notes", [False, True])
def test_edf_has_edfio_s_start(tmp_path: Path, day: date, notes: bool) -> None:
    """EDF and EDF+, of both centuries."""
    path = write_edf(tmp_path / "rec.edf", day, time(8, 30, 5), notes=notes)
    edf = edfio.read_edf(path)
    expected = datetime.combine(edf.startdate, edf.starttime)
    assert open_alone(path).start == expected == datetime.combine(day, time(8, 30, 5))


def test_a_part_of_a_second_stands_in_the_first_onset(tmp_path: Path) -> None:
    """EDF+ begins as much later than its header as its first data record says."""
    path = write_edf(tmp_path / "rec.edf", date(2026, 3, 4), time(8, 30, 5, 250_000), notes=True)
    assert edfio.read_edf(path).starttime == time(8, 30, 5, 250_000)
    assert open_alone(path).start == datetime(2026, 3, 4, 8, 30, 5, 250_000)


@pytest.mark.parametrize("notes", [False, True])
def test_a_withheld_date_is_unknown(tmp_path: Path, notes: bool) -> None:
    """The first of January 1985 stands for no date."""
    path = write_edf(tmp_path / "rec.edf", None, time(8), notes=notes)
    assert b"01.01.85" in path.read_bytes()[:256]
    with pytest.raises(edfio.AnonymizedDateError):
        _ = edfio.read_edf(path).startdate
    assert open_alone(path).start is None


def test_edf_plus_says_the_century(tmp_path: Path) -> None:
    """Two digits of a year end in 2084; the recording's text goes on."""
    change = (b"Startdate 04-MAR-2026", b"Startdate 04-MAR-2085")
    path = write_edf(tmp_path / "rec.edf", date(2026, 3, 4), time(8), notes=True, change=change)
    assert open_alone(path).start == datetime(2085, 3, 4, 8)


def test_plain_edf_without_a_text_counts_from_85(tmp_path: Path) -> None:
    """A recorder's own text is no start date; the header's two digits are read."""
    for digits, year in ((b"84", 2084), (b"86", 1986)):
        path = write_edf(tmp_path / f"{year}.edf", date(2026, 3, 4), time(8))
        data = bytearray(path.read_bytes())
        data[88:168] = b"Holter of ward 7".ljust(80)
        data[168:176] = b"04.03." + digits
        path.write_bytes(bytes(data))
        assert open_alone(path).start == datetime(year, 3, 4, 8)


def ishne(path: Path, day: tuple[int, int, int], clock: tuple[int, int, int]) -> Path:
    """An ISHNE file whose header has a date (day, month, year) and a time."""
    data = bytearray(ishne_bytes(np.stack([400 * SAMPLES] * 2, axis=1).round()))
    struct.pack_into("<3h", data, 138, *day)
    struct.pack_into("<3h", data, 150, *clock)
    (text_bytes,) = struct.unpack_from("<i", data, 10)
    struct.pack_into("<H", data, 8, crc_hqx(bytes(data[10 : 522 + text_bytes]), 0xFFFF))
    path.write_bytes(bytes(data))
    return path


def test_ishne_has_its_header_s_start(tmp_path: Path) -> None:
    """Day, month, year; hour, minute, second, where the format's description has them."""
    path = ishne(tmp_path / "rec.ecg", (4, 3, 2026), (8, 30, 5))
    assert open_alone(path).start == datetime(2026, 3, 4, 8, 30, 5)


@pytest.mark.parametrize("day", [(0, 0, 0), (-9, -9, -9), (31, 2, 2026), (4, 3, 26)])
def test_ishne_without_a_date(tmp_path: Path, day: tuple[int, int, int]) -> None:
    """Zeros, the format's -9 for unknown, and no date of a calendar."""
    assert open_alone(ishne(tmp_path / "rec.ecg", day, (8, 30, 5))).start is None


@pytest.mark.real
def test_real_headers(real_data: Path) -> None:
    """Of CinC 2017 every record has wfdb's date and time; MITDB has none."""
    for path in sorted((real_data / "cinc2017").rglob("A0000*.hea")):
        record = path.with_suffix("")
        assert open_alone(record).start == wfdb.rdheader(str(record)).base_datetime is not None
    assert open_alone(real_data / "mitdb" / "100").start is None
