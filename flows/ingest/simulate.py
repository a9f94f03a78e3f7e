"""Simulate: write a data set of simulated Holter recordings, or find it there already."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from flows.services.progress import Progress
from storage.formats.wfdb_write import is_whole, write_dataset, write_recording
from tasks.learning.simulate import simulate_subject

FS_HZ = 250.0
#: Of four subjects in a row one has no AF, one AF throughout, and two have episodes.
COURSES: tuple[Literal["sinus", "paroxysmal", "persistent"], ...] = (
    "sinus",
    "paroxysmal",
    "persistent",
    "paroxysmal",
)


def write_simulated(folder: Path, subjects: int, hours: float, seed: int) -> Path:
    """Write `subjects` records of `hours` each; the same arguments give the same bytes.

    Returns
    -------
    Path
        The data set's TOML. A folder that holds this very data set is left as it is.
    """
    description = f"Simulated: {subjects} subjects of {hours:g} h, seed {seed}."
    if is_whole(folder, description):
        return folder / "dataset.toml"
    names: list[str] = []
    digests: dict[str, str] = {}
    with Progress("Simulating Holter records", subjects) as progress:
        for subject in range(subjects):
            name = f"sim{subject:03d}"
            course = COURSES[subject % len(COURSES)]
            recording = simulate_subject(1000 * seed + subject, hours, FS_HZ, course)
            digests |= write_recording(folder, name, FS_HZ, recording)
            names.append(name)
            progress.step(name)
    return write_dataset(folder, names, digests, description)
