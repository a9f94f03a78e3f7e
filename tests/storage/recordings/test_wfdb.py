"""Our WFDB readers, held against the wfdb package on every real file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb

from storage.formats.wfdb_annotation import BEAT, SYMBOL, encode_annotations, parse_annotations
from storage.formats.wfdb_header import DEFAULT_GAIN, parse_header

#: wfdb reads a mark in microseconds of Python: hundreds of days would take it a minute.
MOST_MARKS = 3000


@pytest.mark.real
def test_headers_are_read_as_wfdb_reads_them(real_data: Path) -> None:
    """Every field of every real header is what the wfdb package says it is."""
    paths = sorted(real_data.rglob("*.hea"))
    assert len(paths) > 100
    for path in paths:
        ours = parse_header(path.read_bytes(), path.stem, path.name)
        theirs = wfdb.rdheader(str(path.with_suffix("")))
        assert ours.fs_hz == theirs.fs, path
        assert ours.n_samples == (theirs.sig_len or 0), path
        assert list(ours.comments) == theirs.comments, path
        assert len(ours.signals) == theirs.n_sig, path
        for number, signal in enumerate(ours.signals):
            expected = {
                "file": theirs.file_name[number],
                "format": int(theirs.fmt[number]),
                "per_frame": theirs.samps_per_frame[number],
                "skew": theirs.skew[number] or 0,
                "offset_bytes": theirs.byte_offset[number] or 0,
                "gain": theirs.adc_gain[number] or DEFAULT_GAIN,
                "baseline": theirs.baseline[number],
                "units": theirs.units[number],
                "lead": theirs.sig_name[number],
                "initial": theirs.init_value[number],
                "checksum": (theirs.checksum[number] or 0) % 65536 or None,
            }
            assert vars(signal) == expected, path


@pytest.mark.real
@pytest.mark.slow
def test_annotations_are_read_as_wfdb_reads_them(real_data: Path) -> None:
    """A mark of a real annotation file has wfdb's sample, symbol, lead and text.

    Of each folder's longest file that is every mark, of the others the first thousands.
    """
    paths = sorted(p for end in ("atr", "qrs", "qrsc") for p in real_data.rglob(f"*.{end}"))
    assert len(paths) > 130
    longest = {path.parent: path for path in sorted(paths, key=lambda path: path.stat().st_size)}
    for path in paths:
        ours = parse_annotations(path.read_bytes(), path.stem, path.name)
        whole = path == longest[path.parent] or len(ours.sample) <= MOST_MARKS
        last = None if whole else int(ours.sample[MOST_MARKS])
        theirs = wfdb.rdann(str(path.with_suffix("")), path.suffix[1:], sampto=last)
        n = len(theirs.sample)
        assert n == len(ours.sample) if whole else n >= MOST_MARKS, path
        np.testing.assert_array_equal(ours.sample[:n], theirs.sample, err_msg=str(path))
        assert SYMBOL[ours.code[:n]].tolist() == theirs.symbol, path
        texts = [ours.aux.get(number, "") for number in range(n)]
        np.testing.assert_array_equal(ours.channel[:n], theirs.chan, err_msg=str(path))
        assert texts == [text.rstrip("\0").strip() for text in theirs.aux_note], path


def test_annotations_are_written_as_wfdb_writes_them(tmp_path: Path) -> None:
    """Ours has wfdb's bytes where texts are short; of a long one wfdb makes beats, ours refuses."""
    sample, texts = np.array([0, 500, 5000, 700_000]), ["(N", "", "(AFIB", "a note"]
    symbols = ["+", "V", "+", '"']
    aux = {number: text for number, text in enumerate(texts) if text}
    wfdb.wrann("short", "atr", sample, symbols, aux_note=texts, write_dir=str(tmp_path))
    assert (tmp_path / "short.atr").read_bytes() == encode_annotations(sample, symbols, aux)
    long = "x" * 300
    wfdb.wrann("long", "atr", sample[:1], ["+"], aux_note=[long], write_dir=str(tmp_path))
    found = wfdb.rdann(str(tmp_path / "long"), "atr")
    assert len(found.symbol) > 1
    assert set(found.symbol) & set(SYMBOL[BEAT].tolist())
    with pytest.raises(ValueError, match="at most 255 bytes"):
        encode_annotations(sample[:1], ["+"], {0: long})
