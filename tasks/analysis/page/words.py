"""What a record's report says in words: how much AF, when, how sure, how much is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np

from tasks.analysis.page.facts import CLINICAL_S, Page, episodes_of, mean_rate
from tasks.analysis.words import percent, span, state_of, uncertain
from tasks.pages.markup import line
from tasks.scores.episodes import durations_s, lasting
from tasks.scores.levels.certainty import TOLD_SHARE

NOT_A_DIAGNOSIS = (
    "AF here is a network's decision, not a diagnosis: a physician confirms it on the signal. "
    "This is not a medical device."
)
SIGNS = (
    "Under each trace: A, a beat decided AF; –, a beat decided not AF; A? or –?, such a beat on "
    "doubtful signal; ? alone, a beat that cannot be told. Between two beats, their interval in "
    "milliseconds. "
    "Orange, an episode of AF; grey, signal that was not analysed."
)
TRUE_SCALE = (
    "25 mm/s and 10 mm/mV. Printed at 100 % (not fitted to the page), the scale is true: "
    "each strip begins with a pulse of 1 mV for 0.2 s."
)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: Where a network's figures come from, by `side` of a release's manifest.
SIDES = {"test": "patients left out of its training", "never seen": "a data set it never saw"}


def date(page: Page, at_s: float) -> str:
    """The day of a time in the record: its date, or its number where the date is not known."""
    if page.start is None:
        return f"day {int(at_s // 86_400) + 1}"
    at = page.start + timedelta(seconds=at_s)
    return f"{DAYS[at.weekday()]} {at.day} {MONTHS[at.month - 1]} {at.year}"


def moment(page: Page, at_s: float) -> str:
    """A time in the record: of the day where it is known, from the start (h:mm:ss) else."""
    if page.start is None:
        whole = int(at_s)
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    at = page.start + timedelta(seconds=at_s)
    end = page.start + timedelta(seconds=page.duration_s)
    day = "" if page.start.date() == end.date() else f"{at.day} {MONTHS[at.month - 1]} "
    return f"{day}{at:%H:%M:%S}"


def title(page: Page) -> str:
    """The report's title."""
    return f"AF report: {line(page.record)}"


def recording(page: Page) -> str:
    """What was recorded, and when."""
    times = "the recorder's date and time are not known: times count from its start"
    if page.start is not None:
        times = f"from {date(page, 0)}, {page.start:%H:%M:%S}"
        end = page.start + timedelta(seconds=page.duration_s)
        day = "" if end.date() == page.start.date() else f"{date(page, page.duration_s)}, "
        times += f" to {day}{end:%H:%M:%S} (the recorder's clock)"
    return f"{span(page.duration_s)} of lead {line(page.lead)} at {page.fs_hz:g} Hz, {times}."


def headline(page: Page) -> str:
    """How much AF, in a sentence."""
    burden = page.burden
    if burden is None:
        why = page.cannot_tell or "no two beats in a row could be analysed"
        return f"Cannot tell: {line(why).rstrip('.')}."
    analysed = f"the {span(page.analysed_s)} analysed"
    doubt = uncertain(*page.limits, page.untold_share)
    if not len(page.runs):
        return f"No AF found in {analysed}{doubt}."
    possible = "AF" if page.limits[0] else "Possible AF"
    lengths_s = durations_s(page.runs)
    long = len(lasting(page.runs, CLINICAL_S))
    amount = f"{percent(burden)} of {analysed}{doubt}"
    if page.analysed_s < CLINICAL_S:
        return f"{possible} in {amount}: too short a time for an episode of 30 s."
    if not long:
        runs = _count(len(lengths_s), "run", "runs")
        return (
            f"No AF episode of 30 s or more found. {runs} of less than 30 s: "
            f"{span(page.af_s)} in all, {amount}."
        )
    if burden == 1:
        return f"{possible} throughout {analysed}{doubt}."
    number = _count(len(lengths_s), "episode", "episodes")
    words = f"{possible} in {amount}: {span(page.af_s)} in {number}"
    longest = f", the longest {span(float(lengths_s.max()))}" if len(lengths_s) > 1 else ""
    return f"{words}{longest}."


def _count(number: int, single: str, many: str) -> str:
    return f"{number:,} {single if number == 1 else many}"


def unknown(page: Page) -> str:
    """How much could not be analysed, and what else a reader must know; empty where nothing is."""
    hole_s = page.duration_s - page.analysed_s
    words = []
    if hole_s > 0.05:
        words.append(
            f"{span(hole_s)} ({percent(hole_s / page.duration_s)} of the record) could not be "
            "analysed: whether there was AF then is not known."
        )
    if page.burden is not None:
        share = float(page.flagged.mean())
        doubt = [f"{percent(share)} of the beats lie on doubtful signal."] if share >= 0.01 else []
        words += [line(text) for text in page.caveats] or doubt
    return " ".join(words)


def tiles(page: Page) -> list[tuple[str, str, str]]:
    """The numbers of the answer: name, value, and what stands under it."""
    hole_s = max(page.duration_s - page.analysed_s, 0.0)
    holes = ("Could not be analysed", span(hole_s), percent(hole_s / page.duration_s))
    if hole_s <= 0.05:
        holes = ("Could not be analysed", "nothing", "")
    burden = page.burden
    if burden is None:
        recorded = ("Recorded", span(page.duration_s), "")
        beats = ("Beats found", f"{len(page.time_s):,}", "")
        return [recorded, holes, beats] if hole_s > 0.05 else [recorded, beats]
    lengths_s = durations_s(page.runs)
    long = len(lasting(page.runs, CLINICAL_S))
    short = len(page.runs) - long
    untold = int((page.told_shares[lengths_s >= CLINICAL_S] < TOLD_SHARE).sum())
    notes = [f"{untold:,} cannot be told"] if untold else []
    notes += [f"and {short:,} shorter"] if short else []
    first = f"from {moment(page, page.runs[lengths_s.argmax(), 0])}" if len(lengths_s) else ""
    of_all = f"of the {span(page.analysed_s)} analysed"
    low, high = page.limits
    share = page.untold_share
    return [
        ("AF burden", percent(burden), f"{percent(low)} to {percent(high)}" if share else of_all),
        ("Time in AF", span(page.af_s), ""),
        ("Episodes of 30 s or more", f"{long:,}", ", ".join(notes)),
        ("Longest episode", span(float(lengths_s.max(initial=0))), first),
        *([("Cannot be told", span(page.analysed_s * share), percent(share))] if share else []),
        holes,
        ("Mean heart rate", *_rates(page)),
    ]


def _rates(page: Page) -> tuple[str, str]:
    every = mean_rate(page, np.ones(len(page.rr_s), bool))
    if every is None:
        return "not known", "no interval between two beats"
    parts = ((mean_rate(page, page.decided), "in AF"), (mean_rate(page, ~page.decided), "else"))
    both = [f"{rate:.0f} {where}" for rate, where in parts if rate is not None]
    return f"{every:.0f}/min", ", ".join(both) if len(both) == 2 else ""


def sure(page: Page) -> str:
    """How far the network can be trusted here, in a sentence or two."""
    rows, burden = page.network_figures, page.burden
    of_af, of_rest, right = (
        {_short_name(row): float(row[key]) for row in rows if row.get(key) is not None}
        for key in ("sensitivity", "specificity", "ppv_at_burden")
    )
    if not (of_af and of_rest):
        return "How sure: not known. This network came without figures of its errors."
    place = ""
    if len(rows) == 1:
        side = str(rows[0].get("side") or "")
        place = f", on {_short_name(rows[0])} ({SIDES.get(side, side) or 'side not told'})"
    words = (
        f"How sure{place}: of the AF beats this network finds {_range(of_af)}. "
        f"Of the other beats it calls {_range(of_rest)} not AF."
    )
    if not burden:
        words += " None was called AF here, so there is no share of such calls to be right."
    elif burden == 1:
        words += " Where all is called AF, these figures cannot tell what share is right."
    elif not right:
        words += " What share of its AF calls is right cannot be told from these figures."
    else:
        words += (
            f" With {percent(burden)} of the beats AF, as found here, "
            f"{_range(right)} of its AF calls are right."
        )
    alarms = 1 - min(of_rest.values())
    if burden and burden <= alarms:
        words += f" False alarms alone can make {percent(alarms)} of a record without AF look so."
    return words + (f" The table below has all {len(rows)} data sets." if len(rows) > 1 else "")


def _short_name(row: Mapping[str, Any]) -> str:
    """A data set's title up to its colon."""
    return _name(row).split(":", 1)[0]


def _name(row: Mapping[str, Any]) -> str:
    return line(str(row.get("title") or row.get("dataset") or ""))


def _range(shares: Mapping[str, float]) -> str:
    """From the least, with the data set that it is of, to the greatest."""
    worst = min(shares, key=shares.__getitem__)
    low, high = percent(shares[worst]), percent(max(shares.values()))
    return low if low == high else f"{low} (worst, {worst}) to {high}"


SURE_TITLE = "How sure: the network's errors where they were measured"
SURE_COLUMNS = (
    "Data set",
    "Measured on",
    "Patients",
    "Beats",
    "AF beats there",
    "Sensitivity",
    "Specificity",
    "PPV there",
    "PPV at this record's burden",
)


def sure_rows(page: Page) -> list[list[str]]:
    """What was measured of the network, a data set each, and its PPV at this record's burden."""
    return [
        [
            _name(row),
            line(SIDES.get(str(row.get("side")), str(row.get("side") or "not told"))),
            *(f"{row[key]:,}" if row.get(key) else "not told" for key in ("subjects", "beats")),
            _share(row.get("prevalence")),
            *(_with_interval(row, key) for key in ("sensitivity", "specificity", "ppv")),
            _share(row.get("ppv_at_burden")),
        ]
        for row in page.network_figures
    ]


def _share(share: float | None) -> str:
    return "not defined" if share is None else percent(share)


def _with_interval(row: Mapping[str, Any], key: str) -> str:
    value, bounds = row.get(key), (row.get("interval") or {}).get(key)
    if value is None or not bounds:
        return _share(value)
    return f"{percent(value)} ({100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})"


SURE_NOTE = (
    "Sensitivity: of the beats that are AF, the share called AF. Specificity: of the other beats, "
    "the share not called AF. PPV: of the beats called AF, the share that is. PPV at this record's "
    "burden follows from the first two by Bayes' rule, with the burden found taken as true. "
    "In brackets, 95 % intervals."
)


def details(page: Page) -> list[tuple[str, str]]:
    """What decided, on what, and what a reader of it must know: name and value."""
    figures, model = page.figures, dict(page.figures.get("model") or {})
    network = ", ".join(str(model[key]) for key in ("name", "origin") if model.get(key))
    rows = [("Network", network or "not told")]
    if page.registered:
        rows.append(("Registered as", page.registered))
    if page.reason:
        rows.append(("Why this network", page.reason))
    rows += [("How it decides", str(words)) for words in model.get("decision", ())]
    if model.get("af_share") is not None:
        share = f"{percent(model['af_share'])}, {model['af_share_reason']}"
        rows.append(("How common AF was taken to be", share))
    if "runtime" in model:
        rows.append(("Runs on", str(model["runtime"])))
    if "sha256" in model:
        rows.append(("SHA-256 of the network", str(model["sha256"])))
    flagged = int(page.flagged.sum())
    rows.append(("Beats", f"{len(page.time_s):,}, {flagged:,} of them on doubtful signal"))
    stretches = len(page.stretches_s)
    parts = f" in {_count(stretches, 'stretch', 'stretches')}" if stretches else ""
    rows.append(("Analysed", f"{span(page.analysed_s)}{parts}"))
    rows += [("Note", str(text)) for text in figures.get("warnings", ())]
    rows += [
        (f"SHA-256 of {name}", str(digest))
        for name, digest in dict(figures.get("files_sha256") or {}).items()
    ]
    return [(line(name), line(value)) for name, value in rows]


UNTOLD_NOTE = (
    "Where the network is not sure enough of the rhythm, or the signal is poor, neither AF nor not "
    "AF is told. Each stretch of 30 s or more is listed. A physician decides on the signal."
)
UNTOLD_COLUMNS = ("", "Start", "End", "Duration", "Rate, /min", "Mean P(AF)", "Signal")


def untold_rows(page: Page) -> list[tuple[str, ...]]:
    """Every stretch of 30 s or more that cannot be told: number, and cells as of an episode."""
    stretches = replace(page, runs=page.long_untold)
    rows = enumerate(episode_cells(stretches), start=1)
    return [(f"{k:,}", *cells[:-2], cells[-1]) for k, cells in rows]


EPISODE_COLUMNS = ("", "Start", "End", "Duration", "Rate, /min", "Mean P(AF)", "Told", "Signal")


def episode_cells(page: Page) -> list[tuple[str, ...]]:
    """Every episode's row but its number: start, end, duration, rate, mean P(AF), told, signal."""
    facts = episodes_of(page)
    return [
        (
            moment(page, start),
            moment(page, end),
            span(end - start),
            f"{rate:.0f}" if np.isfinite(rate) else "–",
            f"{p_af:.2f}",
            state_of(told),
            "good" if not flagged else f"{percent(flagged)} doubtful",
        )
        for start, end, rate, p_af, told, flagged in zip(
            *(
                values.tolist()
                for values in (
                    facts.start_s,
                    facts.end_s,
                    facts.rate_bpm,
                    facts.p_af,
                    page.told_shares,
                    facts.flagged,
                )
            ),
            strict=True,
        )
    ]
