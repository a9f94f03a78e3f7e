"""A version that is made again without a person: the same training, all others on their sides."""

from __future__ import annotations

import numpy as np
import pytest

from flows.train.kept_sides import keep_sides, kept_split
from storage.errors import SplitError
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
