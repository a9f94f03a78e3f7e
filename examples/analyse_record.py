"""A record, analysed as a device does: `python analyse_record.py [RECORD RELEASE]`.

It needs the `edge` extra alone, no server and no TensorFlow. RECORD is a .hea, .edf or .ecg file,
RELEASE a registered version's folder; a release without a trusted signature is refused. Without
them a record is simulated and an untrained network decides: its AF figures mean nothing.
`holter-edge analyse RECORD --model RELEASE` does the same. Its files go to `analysis/`.
"""

import sys
from pathlib import Path
from typing import Any

from edge_agent.slots import choose_release, edge_home
from storage.files import sha256_file, write_bytes
from storage.formats.wfdb_write import write_recording
from tasks.analysis.analyse import analyse, files_of, summary, write_files
from tasks.learning.simulate import simulate_subject

UNTRAINED = Path(__file__).parent.parent / "tests" / "golden" / "rhythm-untrained.tflite"


def stand_ins() -> tuple[Path, Path, dict[str, Any]]:
    """A simulated record of twelve minutes, and an untrained network that nobody signed."""
    folder, release = Path("records"), Path("release")
    subject = simulate_subject(seed=1, hours=0.2, course="paroxysmal")
    write_recording(folder, "patient", 250.0, subject)
    model = write_bytes(release / "model.tflite", UNTRAINED.read_bytes())
    print("simulated record, untrained network: the AF figures mean nothing")
    files = {model.name: {"sha256": sha256_file(model)}}
    return folder / "patient", release, {"name": "rhythm", "threshold": 0.5, "files": files}


def main() -> None:
    """Analyse a record, print its figures, and write its files."""
    if sys.argv[1:]:
        record = Path(sys.argv[1])
        release, manifest = choose_release(edge_home(), Path(sys.argv[2]))
    else:
        record, release, manifest = stand_ins()
    analysis = analyse(record, release, manifest)
    figures = summary(analysis)
    print(f"{figures['record']}, lead {figures['lead']}: {figures['beats']} beats")
    print(f"{60 * figures['analysable_hours']:.1f} minutes can be analysed")
    print(f"AF burden {100 * figures['af_burden']:.1f} %, {len(figures['episodes'])} episodes")
    write_files(Path("analysis"), files_of(analysis))


if __name__ == "__main__":
    main()
