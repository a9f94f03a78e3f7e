"""A version that is made again without a person: the same training, all others on their sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.consent import forget as work
from flows.ingest.simulate import write_simulated
from flows.services.servers import Servers
from flows.train.kept_sides import keep_sides, kept_split
from flows.train.settings import train_settings
from storage.audit.findings import DELETED, MISMATCH
from storage.audit.verify import verify
from storage.audit.versions import read_version
from storage.errors import SplitError
from storage.registry.signing import trusted_keys
from tasks.learning.splits import SEALED_SIDES, SIDES, interpatient

PEOPLE = np.repeat([f"d/{letter}" for letter in "abcdef"], 20)
LABEL = np.tile([0, 1], 60).astype(np.int8)


def sides_of(split: object) -> dict[str, dict[str, tuple[str, ...]]]:
    return {side: {"subjects": getattr(split, f"{side}_subjects")} for side in SIDES}


def test_everybody_else_stays_on_their_side() -> None:
    """Whoever withdrew; the rule is named, and no sides are kept outside the block."""
    before = interpatient(PEOPLE, LABEL, 1)
    for person in sorted(set(PEOPLE.tolist())):
        rest = person != PEOPLE
        with keep_sides(sides_of(before)):
            if before.test_subjects == (person,):
                with pytest.raises(SplitError, match="nobody left on the test side"):
                    kept_split("interpatient", PEOPLE[rest], 1)
                continue
            after = kept_split("interpatient", PEOPLE[rest], 1)
            assert after is not None
            assert kept_split("intrapatient", PEOPLE[rest], 1) is None
        assert after.rule == SEALED_SIDES
        assert after.digest() != before.digest()
        for side in SIDES:
            names = getattr(before, f"{side}_subjects")
            assert getattr(after, f"{side}_subjects") == tuple(n for n in names if n != person)
    assert kept_split("interpatient", PEOPLE, 1) is None


def test_a_stranger_has_no_side() -> None:
    """For somebody who was not in the sealed version nobody is dealt anew in silence."""
    before = interpatient(PEOPLE, LABEL, 1)
    with keep_sides(sides_of(before)), pytest.raises(SplitError, match="found d/x on none"):
        kept_split("interpatient", np.append(PEOPLE, "d/x"), 1)


@pytest.mark.filterwarnings("default")  # MLflow's own, at import
@pytest.mark.slow
def test_a_training_is_done_again_without_the_person(
    holter_servers: Servers, tmp_path: Path
) -> None:
    """The new version never saw them, tests the same patients, and is compared; both verify."""
    from flows.train.flow import train

    assert holter_servers.mlflow
    toml = write_simulated(tmp_path / "records", 6, 0.03, 3)
    sets = [{"dataset": str(toml), "data": toml.parent}]
    first = train(train_settings(datasets=sets, model="squeeze", epochs=1)).version
    before = read_version(first.reference)
    person = before.split["train"]["subjects"][0]
    certificate = work.forget(work.plan(person), tell=lambda _: None)
    (row,) = certificate.remade
    assert (row.version, row.by, row.reason) == (first.reference, f"{first.name}/2", "")
    after = read_version(row.by)
    for side in SIDES:
        names = [name for name in before.split[side]["subjects"] if name != person]
        assert after.split[side]["subjects"] == names
    assert person.partition("/")[2] not in {e.subject for m in after.manifests for e in m.entries}
    assert row.patients == len(before.split["test"]["subjects"])
    assert {"f1", "sensitivity"} <= row.gains.keys()
    keys = trusted_keys()
    assert {f.state for f in verify(row.by, keys)} & {MISMATCH, DELETED} == set()
    states = {f.state for f in verify(first.reference, keys)}
    assert MISMATCH not in states
    assert DELETED in states
