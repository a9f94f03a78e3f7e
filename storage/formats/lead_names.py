"""Names and units of a recording's signals, as recorders spell them: which is an ECG, which lead.

EDF+ has standard texts ("ECG II"), IEEE 11073 its own (MDC_ECG_LEAD_II), and WFDB and EDF leave the
text free. A name that no rule knows is no ECG here until a user says so.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

#: Units of a lead to a millivolt, by what stands before V or volt. No ECG is of megavolts: M is m.
#: Micro is written u, as either of Unicode's two signs for it, or as a byte of an older code that
#: Latin-1 shows as another letter: æ of DOS, ì of Greek Windows, UTF-8's two as Âµ and Î¼.
PER_MV = {"": 1e-3, "m": 1.0, "milli": 1.0, "n": 1e6, "nano": 1e6}
PER_MV |= dict.fromkeys(("u", "μ", "micro", "mc", "mu", "æ", "ì", "âμ", "î¼"), 1e3)
_UNIT = re.compile(r"[\[(]?(.*?)[ -]?(?:v|volts?)[\])]?\.?", re.DOTALL)
#: Leads in the order in which AF is read best on them: P waves and QRS are tall in II and its kin.
LEADS = ("II", "MLII", "CM5", "ECG1", "ECG", "MCL1", "V5", "I", "ECG2", "V1", "V2", "V4", "V6")
#: Other names of leads.
SYNONYMS = {"DI": "I", "DII": "II", "DIII": "III", "D1": "I", "D2": "II", "D3": "III"}
SYNONYMS |= {"ML1": "MLI", "ML2": "MLII", "ML3": "MLIII"}
#: Words of signals that are no ECG, whatever their unit and whatever else the name says.
_NO_ECG = re.compile(
    r"\b(?:\w*(?:EMG|EEG|EOG|ANNOTATIONS?)\w*|RESP\w*|PLETH\w*|PPG|S[PA]O2|\w*BP|ART|PAP|CVP|ICP"
    r"|ACC\w*|GYR\w*|MARKERS?|EVENTS?|TRIGGER|STATUS|OFF|IMPEDANCE|QUALITY|PULSE|HEART ?RATE|HR|RR"
    r"|TEMP\w*|FLOW|PACE\w*)\b"
)
_KIND = re.compile(r"\b(?:ECG|EKG|ЭКГ)\d*\b")
_LEAD = re.compile(
    r"(?:ML)?I{1,3}|AV[RLF]|V[1-9XYZ]R?|V[1-9]R|D(?:I{1,3}|[1-3])|M[LV][1-9]|MCL[1-6]|C[CMS][1-6]"
    r"|[EA] ?[SI]"
)
_PAIR = re.compile(rf"(?:{_LEAD.pattern})(?: (?:{_LEAD.pattern}))*")
#: What stands before a lead's name (IEEE 11073 calls lead II MDC_ECG_LEAD_II), or inside a text.
_BEFORE = re.compile(
    r"^(?:(?:MDC|HOLTER|LIMB|CHEST|MOD|MODIFIED|ABL|ABLEITUNG) |(?:ECG|EKG|ЭКГ|LEAD) ?(?=\D))+"
)
_AFTER = re.compile(r" (?:ECG|EKG|ЭКГ)$")
#: A lead's name whose number is written apart: "V 5", "MCL-1".
_APART = re.compile(r"(V|M[LV]|MCL|C[CMS]) (\d|I{1,3})")
_INSIDE = re.compile(rf"\b(?:LEAD|ABLEITUNG|ECG|EKG) ({_LEAD.pattern})\b")
_CHANNEL = re.compile(r"(?:ECG|EKG|ЭКГ)(?: ?(?:CHANNEL|CHAN|CH|LEAD|SIGNAL|NO))? ?(\d*)")
#: Names that tell neither an ECG nor another signal: taken where no other lead is there.
_NEUTRAL = re.compile(r"(?:SIGNAL|CHANNEL|CHAN|CH|LEAD|UNKNOWN|BIPOLAR|UNIPOLAR) ?\d*|[A-Z]|\d+")
_NAMELESS = re.compile(r"record .*, (signal \d+)", re.DOTALL)
#: A name is looked at so far: patterns take long over a longer one.
MOST_CHARACTERS = 256


def signal_name(label: str, record: str, number: int) -> str:
    """A signal's name; one without a description is called as the WFDB library calls it.

    What cannot be printed becomes a space: names go to terminals and into pages.
    """
    label = "".join(letter if letter.isprintable() else " " for letter in label).strip()
    return label or f"record {record.rpartition('/')[2]}, signal {number}"


def anywhere(name: str) -> str:
    """What finds a lead of this name in other records too: itself, or its number alone."""
    return _NAMELESS.sub(r"\1", name)


def plain(name: str) -> str:
    """A lead's name as all spell it: "ECG II", "lead ii" and "Modified lead II, chest" are "II".

    "" where the name is of another signal (EMG, respiration, annotations of the ECG); a name that
    tells nothing is given back in capitals, its punctuation as single spaces.
    """
    text = unicodedata.normalize("NFKC", anywhere(name[:MOST_CHARACTERS])).upper()
    words = re.sub(r"[\W_]+", " ", text).strip()
    if _NO_ECG.search(words):
        return ""
    if channel := _CHANNEL.fullmatch(words):
        return f"ECG{channel[1]}"
    short = _AFTER.sub("", _BEFORE.sub("", words))
    if apart := _APART.fullmatch(short):
        short = apart[1] + apart[2]
    inside = None if _LEAD.fullmatch(short) else _INSIDE.search(words)
    short = inside[1] if inside else short
    return SYNONYMS.get(short, short) if _LEAD.fullmatch(short) else words


def rank(name: str) -> int | None:
    """How well AF is read on a lead of this name, 0 the best; None where it may be no ECG."""
    text = plain(name)
    if text in LEADS:
        return LEADS.index(text)
    if _PAIR.fullmatch(text) or _KIND.search(text):
        return len(LEADS)
    return len(LEADS) + 1 if _NEUTRAL.fullmatch(text) else None


def usable(signals: Sequence[tuple[str, str]]) -> list[int]:
    """Numbers of the signals that may be an ECG, by `rank` and spelling, then in their order."""

    def order(number: int) -> tuple[int, bool]:
        name = signals[number][0]
        place = rank(name)
        return len(LEADS) + 2 if place is None else place, name.upper() != plain(name)

    numbers = [n for n, (name, unit) in enumerate(signals) if plain(name) and per_mv(unit)]
    return sorted(numbers, key=order)


def fits(name: str, pattern: str) -> bool:
    """Whether a lead's name is the wanted one in another spelling, or fits it as a pattern."""
    if "*" in pattern:
        parts = map(re.escape, pattern.split("*"))
        return re.fullmatch(".*".join(parts), name, re.IGNORECASE | re.DOTALL) is not None
    return plain(name) == plain(pattern)


def per_mv(units: str) -> float | None:
    """How many of a unit are a millivolt; None where it is no voltage."""
    fitting = _UNIT.fullmatch(units[:MOST_CHARACTERS].strip().lower().replace("µ", "μ"))
    return PER_MV.get(fitting[1]) if fitting else None
