"""The tables of a data set's TOML, but for the whole of it: `storage.datasets.dataset`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from storage.datasets.labels import DETECT, ERROR, REVIEW, Column

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
#: A file extension: annotator names become part of a path, so they may not hold a separator.
Annotator = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$")]
#: The same, or a CSV of intervals: "csv" for NAME.csv, "rhythm.csv" for NAME.rhythm.csv.
RhythmSource = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+(\.csv)?$")]

#: How an error's place tells one source of rhythm from several; a TOML has no such keys.
LAYER, LAYERS = "layer", "layers"
#: One source of rhythm, or several in order.
RhythmLayers = Annotated[
    Annotated[RhythmSource, Tag(LAYER)]
    | Annotated[tuple[RhythmSource, ...], Field(min_length=1), Tag(LAYERS)],
    Discriminator(lambda value: LAYERS if isinstance(value, list | tuple) else LAYER),
]
#: Which decisions hold: `storage.labels.passages`.
Rule = Annotated[str, StringConstraints(pattern=r"^(agreement|latest|reviewer:\S(.*\S)?)$")]

#: A key's name and a digest by it, as `storage.datasets.patients` makes them.
NumberDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}:[0-9a-f]{64}$")]


class Strict(BaseModel):
    """A table with the keys that it has, and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Strict):
    """Where the files come from: a PhysioNet slug, a local folder, or our own simulator.

    `files` are globs of what is fetched of a PhysioNet project; all of it where none is given.
    """

    physionet: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")] | None = None
    files: tuple[Text, ...] = ()
    folder: str | None = None
    simulated: bool = False


class Records(Strict):
    """Which records: a list file, names, or a glob over names; and which are left out, and why.

    `format` says what their files are: WFDB (.hea), EDF or EDF+ (.edf), ISHNE Holter (.ecg),
    DICOM waveforms (.dcm).
    `signal` says whether their signals are read where a command does not: false where there are
    annotations alone.
    """

    format: Literal["wfdb", "edf", "ishne", "dicom"] = "wfdb"
    file: str | None = None
    names: tuple[Text, ...] | None = None
    pattern: Text | None = None
    exclude: Mapping[str, Text] = {}
    signal: bool = True

    @model_validator(mode="after")
    def _one_way(self) -> Records:
        if sum(way is not None for way in (self.file, self.names, self.pattern)) != 1:
            raise ValueError("give exactly one of file, names, pattern")
        return self


class Annotations(Strict):
    """Annotators: beats in order of preference ("detect": none, find them); rhythm, or none.

    A rhythm annotator that ends in "csv" is a table of intervals with the columns `start_s`,
    `end_s`, `rhythm`. Several are layers: "review", which can only be the first, holds what people
    decided about passages (`storage.labels`); elsewhere the first of the others that is there.
    """

    beats: Annotated[tuple[Annotator, ...], Field(min_length=1)]
    rhythm: RhythmLayers | None = None

    @property
    def rhythm_files(self) -> tuple[str, ...]:
        """The annotators of rhythm that are files beside a record, in order of preference."""
        layers = (self.rhythm,) if isinstance(self.rhythm, str) else self.rhythm or ()
        return tuple(layer for layer in layers if layer != REVIEW)

    @property
    def has_review(self) -> bool:
        """Whether what people decided about passages comes before what the files say."""
        layers = (self.rhythm,) if isinstance(self.rhythm, str) else self.rhythm or ()
        return REVIEW in layers

    @model_validator(mode="after")
    def _in_order(self) -> Annotations:
        if DETECT in self.beats[:-1]:
            raise ValueError('"detect" can only be the last choice of beats')
        layers = self.rhythm if isinstance(self.rhythm, tuple) else ()
        if REVIEW in layers[1:]:
            raise ValueError('"review" can only be the first layer of rhythm')
        if len(set(layers)) < len(layers):
            raise ValueError("a layer of rhythm is named twice")
        return self


class Review(Strict):
    """Which decisions of several reviewers hold, where "review" is a layer of rhythm.

    `rule` is "agreement" (where they say different things, nobody can tell), "latest" (the last
    decision) or "reviewer:NAME" (that one's alone).
    """

    rule: Rule = "agreement"


class Labels(Strict):
    """Labels of whole records, for those whose rhythm no annotation marks.

    Attributes
    ----------
    file : str or tuple of str
        A CSV of the data set's folder, a row a record; of several names the first that is there.
    columns : mapping of str to str or int
        Its columns `record`, `label`, `subject`, `exclude`, `why` by the names of its header, or
        where it has no header by number from 1. Where nothing is given, its header uses these.
    paths : mapping of str to str
        Pattern of a record's name, with its folders, to label; "*" stands for "/" too.
    """

    file: Text | tuple[Text, ...] = ()
    columns: Mapping[Column, Text | Annotated[int, Field(ge=1)]] = {}
    paths: Mapping[Text, Text] = {}

    @property
    def files(self) -> tuple[str, ...]:
        """The names that the CSV may have."""
        return (self.file,) if isinstance(self.file, str) else self.file

    @model_validator(mode="after")
    def _columns_of_one_kind(self) -> Labels:
        if self.columns and ("record" not in self.columns or len(self.columns) < 2):
            raise ValueError("columns needs record, and label or another one")
        if len({type(place) for place in self.columns.values()}) > 1:
            raise ValueError("columns are all named by the header, or all numbered from 1")
        return self


class Leads(Strict):
    """Lead names in order of preference; the first one a record has is read.

    One that stands so in a record goes first. Else it is found in other spellings ("II" as "ECG II"
    or "lead ii"), or as a pattern with `*`, among the signals that are no other than an ECG.
    """

    prefer: Annotated[tuple[Text, ...], Field(min_length=1)]


class Rhythms(Strict):
    """What the rhythm marks mean.

    Attributes
    ----------
    af : tuple of str
        The mapped names that count as atrial fibrillation.
    map : mapping of str to str
        Name in the file, without its "(", or label of a whole record, to the name in the tables.
        One that is not here is an error of its record; "" leaves its beats without a label.
    unmarked : str
        The rhythm of a record without any mark, label or comment, or "error".
    before_first : str
        The rhythm before a record's first mark; "" where it is unknown.
    outside : str
        The rhythm outside the intervals of a CSV, and after a mark ")"; "" where it is unknown.
    from_comments : mapping of str to str
        For a record without any mark: comment line of its header to rhythm.
    """

    af: Annotated[tuple[Text, ...], Field(min_length=1)]
    map: Mapping[str, str]
    unmarked: Text = ERROR
    before_first: str = ""
    outside: str = ""
    from_comments: Mapping[str, Text] = {}

    @model_validator(mode="after")
    def _af_is_mapped(self) -> Rhythms:
        rhythms = {*self.map.values(), *self.from_comments.values(), self.unmarked}
        for name in self.af:
            if name not in rhythms:
                raise ValueError(f"af names {name!r}, which no entry of map gives")
        return self


class Subjects(Strict):
    """Record to subject: a table, else a regular expression's group `subject`, else itself.

    The expression must fit a record's name as a whole: the last part of it, or else all of it.
    `numbers` are keyed digests of the patients' own numbers, each to its subject:
    `storage.datasets.patients`.
    Where there is one, a record that neither it nor the table tells of is refused.
    """

    map: Mapping[str, Text] = {}
    pattern: str | None = None
    numbers: Mapping[NumberDigest, Text] = {}

    @model_validator(mode="after")
    def _pattern_has_subject(self) -> Subjects:
        if self.pattern is not None:
            try:
                groups = re.compile(self.pattern).groupindex
            except re.error as error:
                raise ValueError(f"pattern is not a regular expression: {error}") from error
            if "subject" not in groups:
                raise ValueError("pattern needs a group named subject: (?P<subject>...)")
        return self
