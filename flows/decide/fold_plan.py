"""The plan of a cross-validation: who learns from whom, for every seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flows.decide.fold_settings import CrossValidationSettings
from flows.decide.fold_worker import FoldTraining, Source
from flows.ingest.flow import IngestResult
from storage.errors import SplitError
from storage.tables.content import Copy
from storage.text import did_you_mean
from tasks.learning.folds import ClassCounts, Fold, deal_folds, join_copies

#: Folds of the patients learnt from, where no other fold can tell how answers are decided.
INNER_FOLDS = 5


@dataclass(frozen=True)
class SeedPlan:
    """What is trained for a seed: its folds, and those that fix the decisions of a single one."""

    seed: int
    folds: list[FoldTraining]
    inner: list[FoldTraining]


def plan_seed(
    settings: CrossValidationSettings,
    ingested: Sequence[IngestResult],
    pairs: Sequence[Copy],
    seed: int,
) -> SeedPlan:
    """Deal the patients to folds, and those learnt from once more where there is one fold alone.

    Raises
    ------
    SplitError
        They cannot be dealt, or a recording would be learnt from and tested.
    """
    counts = {result.manifest.dataset: class_counts(result) for result in ingested}
    candidates = {
        name: beats
        for result in ingested[: len(settings.on)]
        for name, beats in counts[result.manifest.dataset].items()
    }
    everybody = {name: beats for people in counts.values() for name, beats in people.items()}
    tested = {name: candidates[name] for name in patients_to_test(settings.patients, candidates)}
    background = [name for name in everybody if name not in tested]
    folds = deal_folds(tested, background, settings.fold_rule, seed, pairs)
    inner: list[Fold] = []
    if len(folds) == 1:
        learning = {name: everybody[name] for name in folds[0].learn}
        k = min(INNER_FOLDS, len(join_copies(learning, pairs)))
        if k < 2:
            raise SplitError(
                "one fold, and one patient to learn from: found nobody to fix a threshold on; "
                "expected two patients or more that are not tested"
            )
        inner = deal_folds(learning, (), str(k), seed, pairs)
    check_classes(folds, inner, everybody)
    sources = tuple(sources_of(settings, ingested))

    def trainings(of: Sequence[Fold]) -> list[FoldTraining]:
        config = settings.config(seed)
        return [
            FoldTraining(settings.network, config, settings.balance, sources, fold) for fold in of
        ]

    return SeedPlan(seed, trainings(folds), trainings(inner))


def check_classes(
    folds: Sequence[Fold], inner: Sequence[Fold], counts: Mapping[str, ClassCounts]
) -> None:
    """Make sure, before any training, that each fold's decisions can be fixed on other patients.

    Raises
    ------
    SplitError
        The answers that a fold's threshold would be fixed on are of beats of one class.
    """
    answered = {name for fold in inner or folds for name in fold.test}
    for number, fold in enumerate(folds, 1):
        rest, af = (sum(counts[n][k] for n in answered - {*fold.test}) for k in range(2))
        if not rest or not af:
            raise SplitError(
                f"fold {number} of {len(folds)}: found {af} AF beats and {rest} others to fix its "
                "threshold on, of patients that it does not test; expected both. Test more data "
                "sets, or test these alone in one fold (--folds 1) with some beside"
            )


def class_counts(result: IngestResult) -> dict[str, ClassCounts]:
    """Each subject's beats that are not AF and that are, DATASET/NAME."""
    af, rest = Counter[str](), Counter[str]()
    for entry in result.manifest.entries:
        name = f"{result.manifest.dataset}/{entry.subject}"
        af[name] += entry.af_beats
        rest[name] += entry.beats - entry.af_beats - entry.unknown_beats
    return {name: (rest[name], af[name]) for name in af}


def patients_to_test(names: Sequence[str], candidates: Mapping[str, ClassCounts]) -> list[str]:
    """The patients to test, by their whole names: all, or those that are named.

    Raises
    ------
    SplitError
        One is not among the tested data sets, or is in several of them.
    """
    patients = []
    for name in names:
        matches = [c for c in candidates if name in (c, c.partition("/")[2])]
        if len(matches) != 1:
            names_of_sets = [*candidates, *(c.partition("/")[2] for c in candidates)]
            hint = "" if matches else did_you_mean(name, names_of_sets)
            expected = f"one of {', '.join(matches)}" if matches else "a patient of the tested sets"
            raise SplitError(f"patient {name}: found {len(matches)}{hint}; expected {expected}")
        patients += matches
    return list(dict.fromkeys(patients)) or list(candidates)


def sources_of(
    settings: CrossValidationSettings, ingested: Sequence[IngestResult]
) -> Iterator[Source]:
    """The beat tables of each data set, with its weight."""
    weights = settings.training.weights or [1.0] * len(ingested)
    for result, weight in zip(ingested, weights, strict=True):
        manifest = result.manifest
        yield Source(manifest.dataset, result.path, manifest.digest(), weight)
