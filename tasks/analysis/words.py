"""The answer about a recording, and about many, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from storage.registry.answers import plain
from tasks.scores.levels.certainty import TOLD_SHARE

FOOT = "A network's decision, not a diagnosis: a physician confirms it on the signal."
#: What is told of an episode.
EpisodeState: TypeAlias = Literal["AF", "cannot tell"]
#: Whose data a figure is of: of patients that were not learnt from, or of a whole other data set.
SIDES = {"test": "test patients"}
#: Longest text of a cell; what is longer keeps its ends.
WIDEST = 26
#: Columns of the table of many recordings, by their heading.
TABLE = {
    "record": "record",
    "hours": "hours",
    "analysable": "analysable_hours",
    "AF burden": "af_burden",
    "episodes": "episodes_of_30_s",
    "network": "network",
    "note": "state",
}


def span(seconds: float) -> str:
    """A length of time in its two largest units: "23 h 50 min", "1 min 5 s", "4.2 s"."""
    seconds = round(seconds, 3)  # of the same samples, whether counted in hours or seconds
    if 0 < seconds < 0.05:
        return "<0.1 s"
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    if round(seconds) < 3600:
        return _two_units(round(seconds), 60, "min", "s")
    if minutes < 48 * 60:
        return _two_units(minutes, 60, "h", "min")
    return _two_units(hours, 24, "d", "h")


def _two_units(count: int, base: int, large: str, small: str) -> str:
    wholes, rest = divmod(count, base)
    return f"{wholes} {large} {rest} {small}" if rest else f"{wholes} {large}"


def percent(share: float | None) -> str:
    """A share in per cent; none but a whole one reads as 0 % or 100 %."""
    if share is None:
        return "-"
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"


def state_of(told_share: float) -> EpisodeState:
    """What is told of an episode: that it is AF where at least half of its beats are told."""
    return "AF" if told_share >= TOLD_SHARE else "cannot tell"


def uncertain(low: float, high: float, untold: float) -> str:
    """The limits of the burden, and why there are two; empty where everything is told."""
    if not untold:
        return ""
    limits = f"{percent(low)} to {percent(high)}"
    return f" ({limits}: {percent(untold)} of the time cannot be told)"


def headline(figures: Mapping[str, Any]) -> str:
    """How much AF, in one sentence."""
    if figures["cannot_tell"]:
        return f"cannot tell: {figures['cannot_tell']}"
    analysed = span(3600 * figures["analysable_hours"])
    untold = figures["cannot_tell_s"] / (3600 * figures["analysable_hours"])
    limits = figures["af_burden_low"], figures["af_burden_high"], untold
    if not figures["af_burden"]:
        return f"no AF found in the {analysed} analysed{uncertain(*limits)}"
    possible = "AF" if figures["af_burden_low"] else "possible AF"
    words = f"{possible} in {percent(figures['af_burden'])} of the {analysed} analysed"
    words += uncertain(*limits)
    long = figures["episodes_of_30_s"]
    if not long:
        return f"{words}; no episode of 30 s or more"
    episodes = "1 episode" if long == 1 else f"{long:,} episodes"
    return f"{words}: {episodes} of 30 s or more, the longest {span(figures['longest_af_s'])}"


def answer(figures: Mapping[str, Any], files: Iterable[str]) -> str:
    """What is told of one recording: figures as of `tasks.analysis.analyse.summary`."""
    missing = figures["hours"] - figures["analysable_hours"]
    since = f"; began {figures['start'].replace('T', ' ')}" if figures["start"] else ""
    lost = f"{span(3600 * missing)} ({percent(figures['unanalysable_share'])})"
    rate, beats = figures["mean_heart_rate_bpm"], figures["beats"]
    poor = percent(figures["flagged_beats"] / beats) if beats else "-"
    model = figures["model"]
    registered = f", {model['registered']}" if model["registered"] else ""
    lines = [
        f"{figures['record']}: {headline(figures)}",
        f"  recorded   {span(3600 * figures['hours'])}{since}",
        f"  not read   {lost} could not be analysed",
        f"  signal     lead {figures['lead']}, {figures['fs_hz']:g} Hz; {beats:,} beats, "
        f"{poor} of poor signal" + (f"; mean rate {rate:.0f} /min" if rate else ""),
        f"  network    {model['name']}{registered}, {model['origin']}",
        *([f"  chosen     {model['reason']}"] if model["reason"] else []),
        *(f"  told       {words}" for words in model["decision"][1:3]),
        *_share_line(model),
        *how_sure(figures),
        *(f"  caveat     {words}" for words in figures["caveats"]),
        *(f"  mind       {words}" for words in figures["warnings"]),
        *(f"  file       {file}" for file in files),
        FOOT,
    ]
    return "\n".join(map(plain, lines))


def _share_line(model: Mapping[str, Any]) -> list[str]:
    """How common AF was taken to be, where the release is calibrated."""
    if model["af_share"] is None:
        return []
    return [f"  AF taken   {percent(model['af_share'])}, {model['af_share_reason']}"]


def how_sure(figures: Mapping[str, Any]) -> list[str]:
    """The network's own figures, and its PPV at the burden found, by data set."""
    rows, burden = figures["reliability"], figures["af_burden"]
    if not rows:
        return ["  how sure   its manifest has no figures: not known"]
    at = "" if burden is None else f" at {percent(burden)}"
    cells = [["data set", "whose", "sensitivity", "specificity", f"PPV{at}"]]
    names_by_reason: dict[str, list[str]] = {}
    for row in rows:
        rates = [percent(row[name]) for name in ("sensitivity", "specificity", "ppv_at_burden")]
        cells.append(
            [str(row["dataset"]), SIDES.get(str(row["side"]), str(row["side"] or "")), *rates]
        )
        if row["reason"]:
            names_by_reason.setdefault(str(row["reason"]), []).append(str(row["dataset"]))
    notes = [
        f"{'all' if len(names) == len(rows) else ', '.join(names)}: no PPV, as {reason}"
        for reason, names in names_by_reason.items()
    ]
    alarms = [row["false_alarm_share"] for row in rows if row["false_alarm_share"] is not None]
    if burden and alarms and burden <= max(alarms):
        notes.append(f"false alarms alone make up to {percent(max(alarms))} of time AF")
    head = "  how sure   PPV is by Bayes, with the burden found as prevalence"
    body = [f"             {line}" for line in columns(cells)]
    return [head if burden else "  how sure", *body, *(f"             {note}" for note in notes)]


def columns(cells: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text under one another: the first column to the left, numbers to the right."""
    short = [[_short(cell) for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(*short, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if _is_number(cell) else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in short
    ]


def _short(text: str) -> str:
    half = WIDEST // 2
    return text if len(text) <= WIDEST else f"{text[: half - 1]}..{text[-(half - 1) :]}"


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text == "-" or text[:1] in "<>"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What is told of many recordings: a row each, then in whole lines what was wrong with some."""
    cells = [list(TABLE)]
    for row in rows:
        hours = [f"{row[name]:.2f}" if row[name] is not None else "-" for name in _HOURS]
        episodes = "-" if row["episodes_of_30_s"] is None else f"{row['episodes_of_30_s']:,}"
        state = "" if row["state"] == ANALYSED else row["state"]
        shown = [row["record"], *hours, percent(row["af_burden"]), episodes]
        cells.append([*shown, row["network"] or "-", state])
    wrong = [f"{row['record']}: {row['state']}: {row['note']}" for row in rows if _is_wrong(row)]
    notes = [
        f"{row['record']}: {row['note']}" for row in rows if row["note"] and not _is_wrong(row)
    ]
    counts = f"{len(rows):,} recordings, {len(wrong):,} without an answer."
    return "\n".join(map(plain, [*columns(cells), *notes, *wrong, counts, FOOT]))


_HOURS = ("hours", "analysable_hours")
#: How a recording of many ends.
ANALYSED, CANNOT_TELL, FAILED = "analysed", "cannot tell", "failed"


def _is_wrong(row: Mapping[str, Any]) -> bool:
    return bool(row["state"] != ANALYSED)
