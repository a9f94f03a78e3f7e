"""Where the review page shows a recording that is analysed."""

from __future__ import annotations

from pathlib import Path

from flows.services.ports import review_page
from storage.errors import PlaceError, TableError
from storage.places import beats_place
from storage.recordings.records import Record
from storage.tables.beats_manifest import manifest_paths, read_manifest


def look_at(record: Record) -> str:
    """Address in this state folder's review page of the record that was made of the same files.

    "" where no beat table was made of them, or where tables lie in a bucket, which is not asked.
    """
    place, digests = beats_place(), set(record.digests.values())
    if not isinstance(place, Path) or not digests:
        return ""
    try:
        for path in manifest_paths(place):
            for entry in read_manifest(path).entries:
                if digests <= set(entry.files.values()):
                    return review_page(path.parent.name.removeprefix("dataset="), entry.record)
    except (PlaceError, TableError, OSError):
        return ""  # an answer does not depend on it
    return ""
