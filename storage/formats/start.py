"""When a recording began, as its header has it: local time, without a zone.

A date or time that no calendar has is unknown: recorders leave zeros, and a damaged header must not
stop an analysis.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

#: EDF's date where the true one is withheld (EDF+ specification, section 2.1.3.3).
WITHHELD = (1, 1, 85)
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
#: EDF has two digits of a year: from 85 on it is of the twentieth century.
FIRST_YEAR = 1985
#: No recorder began before Holter's first (1949), and zeros are no year.
LEAST_YEAR = 1949
_EDF = re.compile(r"(\d\d)[.:/-](\d\d)[.:/-](\d\d)", re.ASCII)
_EDF_PLUS = re.compile(r"Startdate (\d{1,2})-([A-Za-z]{3})-(\d{4})(?: |$)", re.ASCII)
_DICOM = re.compile(
    r"(\d{4})(\d\d)(\d\d)(\d\d)(?:(\d\d)(?:(\d\d(?:\.\d{1,6})?))?)?(?:[+-]\d{4})?", re.ASCII
)
_WFDB_TIME = re.compile(r"(?:(?:(\d{1,2}):)?(\d{1,2}):)?(\d{1,2}(?:\.\d{1,9})?)", re.ASCII)
_WFDB_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})", re.ASCII)


def moment(year: int, month: int, day: int, *clock: float) -> datetime | None:
    """A date and hour, minute, second; None where no calendar or clock has them."""
    hour, minute, second = clock
    try:
        if year < LEAST_YEAR or second >= 60:
            return None
        start = datetime(year, month, day, int(hour), int(minute))
        return start + timedelta(microseconds=round(second * 1e6))
    except (ValueError, OverflowError):
        return None


def wfdb_start(words: str) -> datetime | None:
    """Of what follows the number of samples in a WFDB header: base time, then base date.

    A time alone is the start of no known day: None.
    """
    texts = words.split()
    time = _WFDB_TIME.fullmatch(texts[0]) if len(texts) == 2 else None
    date = _WFDB_DATE.fullmatch(texts[1]) if time else None
    if time is None or date is None:
        return None
    day, month, year = map(int, date.groups())
    return moment(year, month, day, *(float(part or 0) for part in time.groups()))


def edf_start(date: str, time: str, recording: str, *, plus: bool) -> datetime | None:
    """Of an EDF header's start date and time; EDF+ has the whole year in its recording's text."""
    day = _EDF.fullmatch(date)
    clock = _EDF.fullmatch(time)
    if day is None or clock is None:
        return None
    hours = map(int, clock.groups())
    if plus and recording.startswith("Startdate "):
        whole = _EDF_PLUS.match(recording)
        if whole is None or whole[2].upper() not in MONTHS:  # "Startdate X": withheld
            return None
        return moment(int(whole[3]), MONTHS.index(whole[2].upper()) + 1, int(whole[1]), *hours)
    dd, mm, yy = map(int, day.groups())
    if (dd, mm, yy) == WITHHELD:
        return None
    return moment(yy + (1900 if yy >= FIRST_YEAR % 100 else 2000), mm, dd, *hours)


def dicom_start(words: str) -> datetime | None:
    """Of a DICOM date and time (VR DT); its zone, where it has one, is left out.

    A date without an hour is the start of no known time: None.
    """
    parts = _DICOM.fullmatch(words.strip())
    if parts is None:
        return None
    year, month, day, hour, minute, second = parts.groups(default="0")
    return moment(int(year), int(month), int(day), int(hour), int(minute), float(second))


def later(start: datetime | None, seconds: float) -> datetime | None:
    """The moment so long after the start, where that is known."""
    try:
        return None if start is None else start + timedelta(seconds=seconds)
    except OverflowError:
        return None
