"""The layer of rhythm that people made: what they decided about passages of a recording.

It lies over what the annotation files say: where a passage has been decided, that holds; where
nobody can tell, or reviewers disagree and the data set's rule lets nobody have it, no rhythm is
known; everywhere else it is as without the layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.datasets.labels import REVIEW
from storage.errors import UnknownRhythm
from storage.files import sha256_bytes, sha256_json
from storage.labels.decisions import FILE, Decision, read_decisions
from storage.labels.passages import passages

if TYPE_CHECKING:  # a device reads records without any data set, and without pydantic
    from storage.datasets.dataset import DatasetSpec

#: Rhythms that may be decided whatever the data set's TOML names.
USUAL_RHYTHMS = ("AFIB", "AFL", "N")


@dataclass(frozen=True, eq=False)
class LayeredRhythm:
    """A record's rhythm with the layer over it.

    Attributes
    ----------
    rhythm_start, rhythms
        As of `storage.recordings.records.Record`.
    label_source : str
        The same; "review" where nothing else tells of any moment of the record.
    decisions : mapping of str to int
        How many decisions about it each reviewer took.
    corrected : int
        Passages in which the layer says otherwise than what lies under it.
    warnings : tuple of str
        What a reader of its figures must know.
    """

    rhythm_start: NDArray[np.int64]
    rhythms: NDArray[np.str_]
    label_source: str
    decisions: dict[str, int] = field(default_factory=dict)
    corrected: int = 0
    warnings: tuple[str, ...] = ()


def decisions_key(dataset: str, record: str) -> str:
    """Under which name the digest of a record's decisions stands among those of its files."""
    return f"labels/{dataset}/{FILE}#{record}"


def decision_digests(decisions: Iterable[Decision]) -> list[str]:
    """The digest of a record's first decision, of its first two, and so on, in their order."""
    digests = [""]
    for decision in decisions:
        digests.append(sha256_bytes(f"{digests[-1]}{sha256_json(asdict(decision))}".encode()))
    return digests[1:]


def with_review(
    spec: DatasetSpec, name: str, n_samples: int, under: LayeredRhythm, digests: dict[str, str]
) -> LayeredRhythm:
    """Lay the decisions about a record over its rhythm; as it is where there is none.

    Parameters
    ----------
    spec : DatasetSpec
        Names the rule for several reviewers, and the rhythms.
    name : str
        The record.
    n_samples : int
        Its length; what is decided of moments after it is left out, and told.
    under : LayeredRhythm
        The rhythm by the files.
    digests : dict
        Gets the digest of the decisions.

    Raises
    ------
    UnknownRhythm
        A rhythm that the TOML does not name holds somewhere.
    DecisionError
        The log of decisions is damaged.
    """
    decisions = read_decisions(spec.name, name) if spec.annotations.has_review else ()
    if not decisions:
        return under
    digests[decisions_key(spec.name, name)] = decision_digests(decisions)[-1]
    inside = [decision for decision in decisions if decision.start < n_samples]
    layer = passages(inside, spec.review.rule)
    rhythms = [_mapped(spec, name, passage.rhythm) for passage in layer]
    starts = np.array([passage.start for passage in layer], np.int64)
    ends = np.minimum([passage.end for passage in layer], n_samples).astype(np.int64)
    # The rhythm at every moment at which one of the layers may change.
    edges = np.unique(np.concatenate([under.rhythm_start, starts, ends[ends < n_samples]]))
    below = under.rhythms[np.searchsorted(under.rhythm_start, edges, side="right") - 1]
    place = np.searchsorted(starts, edges, side="right") - 1
    on_top = place >= 0
    on_top[on_top] = edges[on_top] < ends[place[on_top]]
    names = below.astype(object)
    names[on_top] = np.array(rhythms, object)[place[on_top]]
    changes = np.append(True, names[1:] != names[:-1])
    covered = int((ends - starts).sum()) == n_samples
    outside = len(decisions) - len(inside)
    return LayeredRhythm(
        rhythm_start=edges[changes],
        rhythms=names[changes].astype(str),
        label_source=REVIEW if covered else under.label_source,
        decisions=dict(sorted(Counter(decision.reviewer for decision in decisions).items())),
        corrected=len(np.unique(place[on_top & (names != below)])),
        warnings=(f"{outside} decisions about moments after the record's end",) * bool(outside),
    )


def _mapped(spec: DatasetSpec, name: str, rhythm: str) -> str:
    """A rhythm that was decided, in the data set's names."""
    rules = spec.rhythms
    names = {"", *rules.af, *rules.map.values(), *rules.from_comments.values(), *USUAL_RHYTHMS}
    if rhythm in rules.map and rhythm not in {*rules.map.values()}:
        return rules.map[rhythm]
    if rhythm not in names:
        expected = f"one of {', '.join(sorted({*rules.map, *names} - {''}))}"
        file = decisions_key(spec.name, name).partition("#")[0]
        raise UnknownRhythm(name, f"the decision for rhythm {rhythm!r}", expected, file)
    return rhythm
