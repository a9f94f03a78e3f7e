"""What the names of records and of their folders tell: whose each record is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

#: A date, with a time or without, is of the recording, never of the patient.
_TIME = r"[T._-]?[0-2]\d[._-]?[0-5]\d(?:[._-]?[0-5]\d)?"
_DATE = (
    rf"(?:(?:19|20)\d\d[._-]?[01]\d[._-]?[0-3]\d"
    rf"|[0-3]\d[._-]?[01]\d[._-]?(?:19|20)\d\d(?!\d))(?:{_TIME})?"
)
#: Begins many names too, but may be a number.
_SHORT_DATE = r"\d\d[01]\d[0-3]\d(?!\d)|[0-3]\d[._-][01]\d[._-]\d\d(?!\d)"
_WORDS = re.compile(rf"{_DATE}|[_-]|[^_-]+")
#: Folders of these names hold many people's records, not one's.
_GROUPS = re.compile(
    r"train(ing)?|test(ing)?|val(id|idation)?|dev|data|records?|patients?|subjects?|raw|noisy?"
    r"|(set|part|fold|batch|group|site|ward|cohort)[ _-]?\w*|controls?|others?|(ab)?normal",
    re.I,
)
#: One patient's folder holds no more records: a week of days, and some again.
MOST_RECORDS = 10


@dataclass(frozen=True)
class Folders:
    """Folders that may be a patient each.

    Attributes
    ----------
    pattern : str
        Regular expression of a record's whole name, with the group `subject`.
    records : dict of str to int
        Records in each folder.
    certain : bool
        No folder holds many records, and the same file names recur in them: a patient's nights.
    """

    pattern: str
    records: dict[str, int]
    certain: bool


def label_level(names: Sequence[str], is_label: Callable[[str], bool]) -> int | None:
    """How deep the folders lie that are named by labels, from 0; None where none is."""
    depth = min((name.count("/") for name in names), default=0)
    return next((n for n in range(depth) if any(map(is_label, folder_names(names, n)))), None)


def folder_names(names: Sequence[str], level: int) -> list[str]:
    """The different folders at a level, in order."""
    return list(dict.fromkeys(name.split("/")[level] for name in names))


def patient_folders(names: Sequence[str], labels_at: int | None) -> Folders | None:
    """The first level of folders that are neither labels nor dates nor groups of people."""
    depth = min((name.count("/") for name in names), default=0)
    for level in range(depth):
        folders = Counter(name.split("/")[level] for name in names)
        dated = any(re.match(_DATE, folder) for folder in folders)
        if dated or level == labels_at or any(map(_GROUPS.fullmatch, folders)):
            continue
        files = {name.rpartition("/")[2] for name in names}
        # p01 under two labels may be one patient, or a numbering that begins anew.
        above = {tuple(name.split("/")[: level + 1]) for name in names}
        certain = (
            1 < len(folders) == len(above)
            and max(folders.values()) <= MOST_RECORDS
            and 2 * len(files) <= len(names)
        )
        return Folders(f"{'[^/]+/' * level}(?P<subject>[^/]+)/.*", dict(folders), certain)
    return None


def begins_with_date(names: Sequence[str]) -> bool:
    """Whether a name begins with a date: a number after it may be the recording's of that day."""
    return any(re.match(f"{_DATE}|{_SHORT_DATE}", name.rpartition("/")[2]) for name in names)


def by_pattern(pattern: str, names: Sequence[str]) -> dict[str, str]:
    """Record to subject, for the records whose name the pattern fits."""
    fits = {name: re.fullmatch(pattern, name.rpartition("/")[2]) for name in names}
    return {name: fit["subject"] for name, fit in fits.items() if fit}


def apart(subjects: Mapping[str, str]) -> list[str]:
    """The subjects that lie in more than one folder."""
    places = {(name.rpartition("/")[0], subject) for name, subject in subjects.items()}
    times = Counter(subject for _, subject in places)
    return [subject for subject, number in times.items() if number > 1]


def name_pattern(names: Sequence[str]) -> str | None:
    """A pattern of names that are put together alike from words: the first that varies is whose.

    "data_0_1", "data_0_2", "data_7_1" give ``data_(?P<subject>\\d+)_\\d+``. Where only the last
    word varies, the names may all be one patient's: the first word with a digit is whose, so that
    "p01_1", "p01_2" give ``(?P<subject>[^_-]+)_\\d+``, which fits "p02_1" too. A date is nobody's.
    None where no word is left, as a name is then the record's alone.
    """
    split = [_WORDS.findall(name) for name in names]
    if len({len(words) for words in split}) != 1 or len(split) < 2:
        return None
    columns = list(zip(*split, strict=True))
    kinds = [_kind(column) for column in columns]
    varying = [i for i, column in enumerate(columns) if len(set(column)) > 1]
    if not all(kinds) or any(columns[i][0] in "_-" for i in varying):
        return None
    dates = {i for i, column in enumerate(columns) if re.fullmatch(_DATE, column[0])}
    with_digit = [
        i
        for i, column in enumerate(columns[: varying[-1]] if varying else ())
        if i not in dates and any(letter.isdecimal() for letter in column[0])
    ]
    places = [i for i in varying if i not in dates] if len(varying) > 1 else with_digit
    if not places:
        return None
    parts = [
        f"(?P<subject>{kind})"
        if i == places[0]
        else kind
        if i in varying
        else _fixed_part(column[0])
        for i, (column, kind) in enumerate(zip(columns, kinds, strict=True))
    ]
    return "".join(parts)


def _kind(column: Sequence[str]) -> str:
    """What fits the words of a column, and others of their kind; "" where they are not alike."""
    dates = [re.fullmatch(_DATE, word) is not None for word in column]
    if any(dates):
        shapes = {_fixed_part(word) for word in column}
        return shapes.pop() if all(dates) and len(shapes) == 1 else ""
    return r"\d+" if all(word.isdecimal() for word in column) else "[^_-]+"


def _fixed_part(word: str) -> str:
    """A word that is the same in all names, whose numbers may be others in names to come."""
    return re.sub(r"\d+", r"\\d+", re.escape(word))
