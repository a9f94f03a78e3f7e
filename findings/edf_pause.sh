#!/usr/bin/env bash
# An hour's pause in an EDF+D recording is no pause to mne 1.12.1 and edfio 0.4.18.
#
# EDF+D ("discontinuous") gives each data record its own time of beginning (EDF+ specification, 2.2.2). The file
# here holds 30 s, a pause of 3,600 s, and 30 s more. mne and edfio read it as 60 s in one piece, and no warning
# tells of the pause: the samples before and after it stand side by side. pyEDFlib 0.1.42 refuses the file.
# Times after a pause, RR intervals across it and AF burden are wrong where a reader does so.
# This project reads the times of the data records: storage/formats/edf.py.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install -qq mne==1.12.1 edfio==0.4.18 pyEDFlib==0.1.42
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import edfio
import mne
import numpy as np
import pyedflib

FS_HZ, RECORDS, PAUSE_S, TEXT_BYTES = 250, 60, 3600, 60
onsets_s = [second + PAUSE_S * (second >= 30) for second in range(RECORDS)]
samples = np.round(1000 * np.sin(2 * np.pi * np.arange(RECORDS * FS_HZ) / FS_HZ)).astype("<i2")


def field(*values, width):
    return b"".join(str(value).encode().ljust(width) for value in values)


header = field("0", width=8) + field("X X X X", "Startdate 01-JAN-2026 X X X", width=80)
header += field("01.01.26", "00.00.00", 256 * 3, width=8) + field("EDF+D", width=44)
header += field(RECORDS, 1, width=8) + field(2, width=4)
header += field("ECG II", "EDF Annotations", width=16) + field("", "", width=80)
for pair in (("mV", ""), (-5, -1), (5, 1), (-5000, -32768), (5000, 32767)):
    header += field(*pair, width=8)
header += field("", "", width=80) + field(FS_HZ, TEXT_BYTES // 2, width=8) + field("", "", width=32)
with open("pause.edf", "wb") as file:
    file.write(header)
    for number, onset_s in enumerate(onsets_s):
        file.write(samples[number * FS_HZ :][:FS_HZ].tobytes())
        file.write(f"+{onset_s}\x14\x14\0".encode().ljust(TEXT_BYTES, b"\0"))

with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    raw = mne.io.read_raw_edf("pause.edf", preload=True, verbose="WARNING")
    edf = edfio.read_edf("pause.edf")
    last_s = {"mne": float(raw.times[-1]), "edfio": edf.duration}
    try:
        refusal = ""
        pyedflib.EdfReader("pause.edf")
    except OSError as error:
        refusal = str(error)
print(f"last data record begins at {onsets_s[-1]} s")
print(f"mne {mne.__version__}: the last sample is at {last_s['mne']:g} s, annotations {list(raw.annotations)}")
print(f"edfio 0.4.18: the recording lasts {last_s['edfio']:g} s")
print(f"warnings: {[str(one.message) for one in told]}")
print(f"pyEDFlib {pyedflib.__version__}: {refusal}")
assert onsets_s[-1] == 3659
assert round(last_s["mne"]) == round(last_s["edfio"]) == 60 and not told
assert not len(raw.annotations) and "discontinuous" in refusal
PYTHON
echo "as described"
