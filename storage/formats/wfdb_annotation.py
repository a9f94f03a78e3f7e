"""MIT-format annotation files, read and written in numpy (format: physionet.org, wag/annot-5).

A file is a row of 16-bit little-endian words: 6 bits of type, 10 bits of time since the annotation
before. Four types are not annotations but speak of one: SKIP carries a longer time in the four
bytes after it, NUM, SUB and CHN carry a number for the annotation before, AUX a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from storage.errors import BadAnnotation
from storage.text import decode_text

#: Type code of every mnemonic (WFDB Applications Guide; ecgcodes.h).
CODE: Mapping[str, int] = {
    **{symbol: code for code, symbol in enumerate("NLRaVFJASEj/Q~", start=1)},
    **{"|": 16, "s": 18, "T": 19, "*": 20, "D": 21, '"': 22, "=": 23, "p": 24, "B": 25, "^": 26},
    **{"t": 27, "+": 28, "u": 29, "?": 30, "!": 31, "[": 32, "]": 33, "e": 34, "n": 35, "@": 36},
    **{"x": 37, "f": 38, "(": 39, ")": 40, "r": 41},
}
SYMBOL: NDArray[np.str_] = np.array(
    [{code: symbol for symbol, code in CODE.items()}.get(code, " ") for code in range(64)]
)
#: The codes that are beats: PhysioNet's list, which leaves out "!", a flutter wave.
BEAT = np.array([symbol in "NLRBAaJSVrFejnE/fQ?" for symbol in SYMBOL.tolist()])
RHYTHM_CHANGE, QUALITY_CHANGE, NOTE = CODE["+"], CODE["~"], CODE['"']
#: Subtype of a change of quality after which no signal can be read. Any other has a bit for each
#: of the first four signals: the low four say that it is noisy, the high four unreadable.
UNREADABLE, QUALITY_SIGNALS = -1, 4
SKIP, NUM, SUB, CHN, AUX = 59, 60, 61, 62, 63
RESOLUTION = b"## time resolution: "
MOST_TEXT_BYTES = 255  #: the WFDB library keeps a text's length in a byte


@dataclass(frozen=True, eq=False)
class Annotations:
    """The annotations of one file.

    Attributes
    ----------
    sample : int64, shape (n,)
        Sample index of each, in file order.
    code : uint8, shape (n,)
        Type code; `SYMBOL[code]` is its mnemonic.
    aux : mapping of int to str
        Texts, by the number of the annotation they belong to.
    channel : int16, shape (n,)
        Lead that each was marked on, by its number in the header; 0 where the file says nothing.
    fs_hz : float or None
        Sampling rate the times count in, where the file says so.
    subtype : mapping of int to int
        Subtypes other than 0, by the number of the annotation they belong to.
    """

    sample: NDArray[np.int64]
    code: NDArray[np.uint8]
    aux: Mapping[int, str]
    channel: NDArray[np.int16]
    fs_hz: float | None = None
    subtype: Mapping[int, int] = field(default_factory=dict)

    def at(self, fs_hz: float, unsaid_hz: float | None = None) -> Annotations:
        """The same, with times counted at `fs_hz`.

        `unsaid_hz` is the rate they count at where the file does not say; by default `fs_hz`.
        """
        counts_hz = self.fs_hz or unsaid_hz or fs_hz
        if counts_hz == fs_hz:
            return self
        sample = np.rint(self.sample * (fs_hz / counts_hz)).astype(np.int64)
        return replace(self, sample=sample, fs_hz=fs_hz)


def parse_annotations(data: bytes, record: str, file: str) -> Annotations:
    """Read an annotation file's bytes.

    Raises
    ------
    BadAnnotation
        No end mark (the file is cut short), a text or time that runs past the end, times that are
        negative or run backwards.
    """
    if len(data) < 2:
        raise BadAnnotation(record, f"{len(data)} bytes", "an MIT annotation file", file)
    words = np.frombuffer(data, "<u2", len(data) // 2)
    code = (words >> 10).astype(np.uint8)
    payload, long_steps, texts, end = _walk(words, code, data, record, file)
    step = (words[:end] & 1023).astype(np.int64)
    plain = (code[:end] < SKIP) & ~payload[:end]
    if plain.all():  # as most files of beats alone: nothing is said of any of them
        sample, n = np.cumsum(step), len(step)
        return Annotations(sample, code[:end], {}, np.zeros(n, np.int16))
    step[~plain] = 0
    for position, value in long_steps:
        step[position] = value
    sample = np.cumsum(step)[plain]
    if len(sample) and (sample[0] < 0 or bool((np.diff(sample) < 0).any())):
        raise BadAnnotation(record, "times that run backwards", "ascending sample indices", file)
    number = np.cumsum(plain) - 1
    aux = {int(number[position]): text for position, text in texts if number[position] >= 0}
    aux, fs_hz = _resolution(aux)
    noted = np.flatnonzero(~plain & ~payload[:end])
    marked = noted[code[noted] == CHN]
    channel = _channels(number[marked], words[marked], len(sample))
    # A signed byte, which some write with its sign through all ten bits.
    marked = noted[code[noted] == SUB]
    subtypes = (words[marked] & 255).astype(np.uint8).view(np.int8)
    subtype = {
        place: kind
        for place, kind in zip(number[marked].tolist(), subtypes.tolist(), strict=True)
        if place >= 0
    }
    return Annotations(sample, code[:end][plain], aux, channel, fs_hz, subtype)


def _channels(number: NDArray[np.int64], words: NDArray[np.uint16], n: int) -> NDArray[np.int16]:
    """Each annotation's channel: what is said of one holds until another is said (annot-5)."""
    if not len(number):
        return np.zeros(n, np.int16)
    latest = np.full(n, -1)
    has_annotation = number >= 0
    latest[number[has_annotation]] = np.flatnonzero(has_annotation)
    latest = np.maximum.accumulate(latest)
    values = (words & 255).astype(np.int16)
    return np.where(latest < 0, np.int16(0), np.append(values, np.int16(0))[latest])


def _walk(
    words: NDArray[np.uint16], code: NDArray[np.uint8], data: bytes, record: str, file: str
) -> tuple[NDArray[np.bool_], list[tuple[int, int]], list[tuple[int, str]], int]:
    """Find the words that are payload, the long steps, the texts, and the end mark.

    Only SKIP, AUX and the end mark need a look one by one, in order: a payload's words can look
    like any of them.
    """
    payload = np.zeros(len(words), bool)
    long_steps: list[tuple[int, int]] = []
    texts: list[tuple[int, str]] = []
    following = 0
    for position in np.flatnonzero((code == SKIP) | (code == AUX) | (words == 0)).tolist():
        if position < following:
            continue
        if words[position] == 0:
            return payload, long_steps, texts, position
        length = 4 if code[position] == SKIP else int(words[position] & 1023)
        following = position + 1 + (length + 1) // 2
        if following > len(words):
            break
        payload[position + 1 : following] = True
        if code[position] == SKIP:
            high, low = int(words[position + 1]), int(words[position + 2])
            step = high << 16 | low
            long_steps.append((position, step - (1 << 32) if high >= 1 << 15 else step))
        else:
            raw = data[2 * position + 2 : 2 * position + 2 + length]
            texts.append((position, decode_text(raw.split(b"\0")[0]).strip()))
    raise BadAnnotation(record, f"no end mark in {len(data)} bytes", "a whole file", file)


def _resolution(aux: dict[int, str]) -> tuple[dict[int, str], float | None]:
    marker = RESOLUTION.decode()
    for text in aux.values():
        if text.startswith(marker):
            try:
                fs_hz = float(text[len(marker) :])
            except ValueError:
                return aux, None
            return aux, fs_hz if 0 < fs_hz < float("inf") else None
    return aux, None


def encode_annotations(
    sample: NDArray[np.int64],
    symbols: Sequence[str],
    aux: Mapping[int, str] | None = None,
    channels: Mapping[int, int] | None = None,
) -> bytes:
    """Write annotations as the bytes of an MIT annotation file.

    A device writes them too, and has no wfdb. That package (4.3.1) moreover takes a text of 256
    characters or more, and writes it so that it reads back as beats; here it is refused.

    Parameters
    ----------
    sample : int64, shape (n,)
        Ascending sample indices.
    symbols : sequence of str, length n
        Their mnemonics.
    aux : mapping of int to str, optional
        Texts, by number of the annotation: UTF-8 of at most 255 bytes each, without NUL.
    channels : mapping of int to int, optional
        Leads by number of the annotation from which each holds; lead 0 at first.

    Raises
    ------
    ValueError
        What the format cannot hold: indices that do not ascend, a symbol that has no code, a text
        that is longer, holds NUL or belongs to no annotation.
    """
    step = np.diff(sample, prepend=0)
    if len(step) and (step.min() < 0 or int(step.max()) >= 1 << 31):
        raise ValueError("sample indices must ascend, from 0 and in steps under 2**31")
    if len(symbols) != len(sample):
        raise ValueError(f"found {len(symbols)} symbols; expected {len(sample)}")
    if unknown := sorted(set(symbols) - set(CODE)):
        raise ValueError(f"found the symbol {unknown[0]!r}; expected one of {' '.join(CODE)}")
    texts = {position: _text(text) for position, text in (aux or {}).items()}
    if not set(texts) <= set(range(len(sample))):
        raise ValueError(f"found a text of annotation {max(texts)}; expected one of {len(sample)}")
    code = np.array([CODE[symbol] for symbol in symbols], np.uint16)
    out = bytearray()
    start = 0
    # Long steps and texts are rare: the plain stretches between them are written at once.
    leads = channels or {}
    for position in sorted({*np.flatnonzero(step > 1023).tolist(), *texts, *leads}):
        out += _plain(code[start:position], step[start:position])
        first = int(step[position])
        if first > 1023:
            out += np.array([SKIP << 10, first >> 16, first & 0xFFFF], "<u2").tobytes()
            first = 0
        out += np.array([int(code[position]) << 10 | first], "<u2").tobytes()
        if position in leads:
            out += np.array([CHN << 10 | leads[position]], "<u2").tobytes()
        if position in texts:
            text = texts[position]
            out += (
                np.array([AUX << 10 | len(text)], "<u2").tobytes() + text + b"\0" * (len(text) % 2)
            )
        start = position + 1
    return bytes(out + _plain(code[start:], step[start:]) + b"\0\0")


def _text(text: str) -> bytes:
    """A text as the format holds it: its length is a byte, and NUL is what pads it."""
    data = text.encode()
    if len(data) > MOST_TEXT_BYTES or b"\0" in data:
        expected = f"at most {MOST_TEXT_BYTES} bytes of UTF-8, none of them NUL"
        raise ValueError(f"found the annotation text {text[:40]!r}; expected {expected}")
    return data


def _plain(code: NDArray[np.uint16], step: NDArray[np.int64]) -> bytes:
    return (code << 10 | step.astype(np.uint16)).astype("<u2").tobytes()
