"""How sure a decision is: a network's figures, and its PPV at the AF burden of a recording.

A positive predictive value holds for the prevalence that it was measured at. By Bayes' theorem, a
network of sensitivity s and specificity c has PPV = s p / (s p + (1 - c) (1 - p)) at a prevalence p
(Altman & Bland 1994, doi:10.1136/bmj.309.6947.102). The prevalence of a recording is not known: its
AF burden as decided stands for it, and every table says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

#: What of a data set's figures is told.
FIELDS = ("dataset", "title", "side", "level", "subjects", "beats", "prevalence", "interval")


def ppv_at(
    sensitivity: float | None, specificity: float | None, prevalence: float | None
) -> tuple[float | None, str]:
    """PPV at a prevalence, shares of 1 each; None where it cannot be told, and why not.

    Returns
    -------
    float or None, str
        The PPV, and "" or the reason why there is none.
    """
    if prevalence is None:
        return None, "the burden is not known"
    if prevalence == 0:
        return None, "no AF was found, and PPV is of what was called AF"
    if sensitivity is None:
        return None, "nobody in it had AF: no sensitivity is known"
    if specificity is None:
        return None, "all of it was AF: no specificity is known"
    right, wrong = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    if right + wrong == 0:
        return None, "a network of these figures calls nothing AF"
    return right / (right + wrong), ""


def reliability(figures: Sequence[Mapping[str, Any]], burden: float | None) -> list[dict[str, Any]]:
    """A row for each data set that a network was tested on.

    Parameters
    ----------
    figures : sequence of mapping
        `figures` of a release's manifest.
    burden : float or None
        Share of the analysed time that was decided to be AF; None where it cannot be told.

    Returns
    -------
    list of dict
        The data set's figures; `ppv_at_burden` with `reason` where it is None; and
        `false_alarm_share`, the burden that false alarms alone make where there is no AF at all.
    """
    rows = []
    for entry in figures:
        rates = {name: _share(entry.get(name)) for name in ("sensitivity", "specificity", "ppv")}
        ppv, reason = ppv_at(rates["sensitivity"], rates["specificity"], burden)
        specificity = rates["specificity"]
        rows.append(
            {name: entry.get(name) for name in FIELDS}
            | rates
            | {
                "ppv_at_burden": ppv,
                "reason": reason,
                "false_alarm_share": None if specificity is None else 1 - specificity,
            }
        )
    return rows


def _share(value: Any) -> float | None:
    """A share of 1 as it is; None for anything else."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and isfinite(value) and 0 <= value <= 1 else None
