"""A record's report as one HTML file: it loads nothing, and a device makes it with numpy alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tasks.analysis.page import strips as page_strips
from tasks.analysis.page import words as page_words
from tasks.analysis.page.charts import day_chart, shown_untold, timeline
from tasks.analysis.page.facts import CLINICAL_S, Page
from tasks.analysis.page.shapes import KINDS, Boxes, Drawing, Shape, Strokes, crosshatch, hatch, svg
from tasks.analysis.page.strips import (
    Strip,
    as_data,
    draw_strip,
    episode_starts,
    key_strips,
    read_strip,
    untold_strips,
)
from tasks.pages.colours import stylesheet
from tasks.pages.markup import escape
from tasks.scores.episodes import durations_s
from tasks.scores.levels.certainty import TOLD_SHARE

#: Samples of all episodes' strips together, a character each: what bounds the file's size.
MOST_SAMPLES = 1_700_000
#: Fewer samples a second than this are not drawn: fewer episodes have strips instead.
LEAST_HZ = 100.0
#: Height of the chart of the day.
CHART_MM = 100.0
#: Nothing of the page may come from elsewhere: a browser refuses it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def draw_html(page: Page) -> str:
    """The report as HTML.

    Parameters
    ----------
    page : Page
        What it shows. Its `read` is called for every strip.

    Returns
    -------
    str
        One file of about a megabyte for a day with many episodes, three at most.
    """
    title = escape(page_words.title(page))
    body = [
        f"<h1>{title}</h1>",
        f'<p class="lead">{escape(page_words.recording(page))}</p>',
        *_look(page),
        *_answer(page),
        *_over_the_day(page),
        *_key_strips(page),
        *_episodes(page),
        *_untold(page),
        *_how_sure(page),
        *_details(page),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{title}</title>\n<style>\n{_style()}</style></head>\n"
        '<body class="no-script">\n' + "\n".join(body) + "\n</body></html>\n"
    )


@cache
def _style() -> str:
    kinds = "".join(
        f".k-{kind} {{ --c: var(--{colour}); {f'opacity: {share:g};' if share < 1 else ''} }}\n"
        for kind, (colour, share) in KINDS.items()
    )
    return stylesheet() + _beside("page.css") + kinds


def _beside(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _answer(page: Page) -> Iterator[str]:
    state = "plain" if page.burden is None or len(page.long_untold) else "good"
    state = "bad" if page.burden and page.limits[0] else state
    yield f'<div class="summary {state}"><p class="first">{escape(page_words.headline(page))}</p>'
    if unknown := page_words.unknown(page):
        yield f'<p class="rest">{escape(unknown)}</p>'
    yield '<dl class="tiles">'
    for name, value, note in page_words.tiles(page):
        below = f"<dd>{escape(note)}</dd>" if note else ""
        yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd>{below}</div>"
    yield "</dl></div>"
    drawing = timeline(page)
    yield svg(drawing, "broad")
    yield svg(timeline(page, 92.0), "narrow")
    yield _legend(page, {shape.kind for shape in drawing.shapes})
    if page.burden is not None:
        yield f"<p>{escape(page_words.sure(page))}</p>"
    yield f'<p class="caveat">{escape(page_words.NOT_A_DIAGNOSIS)}</p>'


def _look(page: Page) -> Iterator[str]:
    """Where a person looks at the whole record, where that is known."""
    if page.look:
        words = "This record in the review page, where that is served"
        yield f'<p class="screen"><a href="{escape(page.look)}">{words}</a></p>'


def _legend(page: Page, drawn: Collection[str]) -> str:
    box = np.array([[0.0, 0.0, 15.0, 8.0]])
    low = np.array([[0.0, 4.5, 15.0, 3.0]])
    dots = np.array([[x, 6.5, x + 0.6, 6.5] for x in np.arange(1, 15, 2.0)])
    signs: list[tuple[str, Sequence[Shape]]] = []
    if len(page.holes_s) or (page.burden is None and not page.cannot_tell):
        signs = [("not analysed", hatch(box))]
    if page.burden is not None:
        signs = [("AF", [Boxes(box, "af")]), ("not AF", [Boxes(low, "other")]), *signs]
    if page.cannot_tell or len(shown_untold(page)):
        signs.append(("cannot tell", crosshatch(box, 4.0, 0.8)))
    if "doubt" in drawn:
        signs.append(("beats on doubtful signal", [Strokes(dots, "doubt", 1.5)]))
    items = (f"<li>{svg(Drawing(15, 8, shapes))}{name}</li>" for name, shapes in signs)
    return f'<ul class="legend" aria-label="Signs of the timeline">{"".join(items)}</ul>'


def _over_the_day(page: Page) -> Iterator[str]:
    yield "<h2>Heart rate and intervals</h2>"
    chart = day_chart(page, CHART_MM)
    if chart is None:
        yield "<p>There is no interval between two beats to show.</p>"
        return
    drawing = svg(chart, "chart")
    yield f'<figure class="drawing"><div class="wide" tabindex="0">{drawing}</div></figure>'


def _key_strips(page: Page) -> Iterator[str]:
    yield "<h2>Signal</h2>"
    yield from map(_figure, key_strips(page))
    yield f"<p>{escape(page_words.TRUE_SCALE)}</p>"
    if page.burden is not None:
        yield f"<p>{escape(page_words.SIGNS)}</p>"


def with_strips(page: Page) -> list[int]:
    """Numbers of the episodes, from 0, whose strips fit into the file: all, or the longest."""
    each = np.array([len(episode_starts(page, k)) for k in range(len(page.runs))])
    cost = each * page_strips.STRIP_S * min(page.fs_hz, LEAST_HZ)
    order = np.argsort(-durations_s(page.runs), kind="stable")
    fits = np.cumsum(cost[order]) <= MOST_SAMPLES
    return sorted(order[fits].tolist())


def _episodes(page: Page) -> Iterator[str]:
    if not len(page.runs) or page.burden is None:
        return
    shown = with_strips(page)
    total = sum(len(episode_starts(page, k)) for k in shown) * page_strips.STRIP_S
    most_hz = max(MOST_SAMPLES / total, LEAST_HZ) if total else LEAST_HZ
    strips = {
        k + 1: [
            as_data(read_strip(page, start_s, f"Episode {k + 1}, {part}", most_hz))
            for start_s, part in episode_starts(page, k)
        ]
        for k in shown
    }
    count = len(page.runs)
    yield f"<h2>Episodes ({count:,})</h2>"
    words = "A row opens its strips: onset, middle and end, ten seconds each."
    if len(shown) < count:
        words += (
            f" All {count:,} episodes are listed. To keep this file small, only the "
            f"{len(shown):,} longest have strips."
        )
    rates = {strip[1] for rows in strips.values() for strip in rows}
    if rates and max(rates) < 0.99 * page.fs_hz:
        words += (
            f" Their traces are drawn at {max(rates):.0f} points a second of {page.fs_hz:g}; "
            "peaks are kept."
        )
    if page.look:
        words += " A start opens it in the review page."
    yield f'<p class="screen">{escape(words)}</p>'
    yield (
        "<noscript><p>The strips in this table need JavaScript, which is off. "
        "The PDF beside this file has them without it.</p></noscript>"
    )
    yield _episode_table(page, set(shown))
    data = {
        "alphabet": page_strips.ALPHABET,
        "start": np.round(page.runs[:, 0], 2).tolist(),
        "duration": np.round(durations_s(page.runs), 2).tolist(),
        "strips": strips,
    }
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    yield f'<script type="application/json" id="strips">{text}</script>'
    yield f"<script>\n{_beside('page.js')}</script>"


def _episode_table(page: Page, shown: set[int]) -> str:
    names = [escape(name) for name in page_words.EPISODE_COLUMNS]
    if page.start is None:
        names[1:3] = ["Start, h:mm:ss", "End, h:mm:ss"]
    names[0] = "Number"
    for k, by in ((1, "start"), (3, "duration")):
        sort = f'<button type="button" data-by="{by}" aria-label="Sort by {by}">\u2195</button>'
        names[k] += f' <span class="screen">{sort}</span>'
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    short, untold = durations_s(page.runs) < CLINICAL_S, page.told_shares < TOLD_SHARE
    rows = []
    starts_s = page.runs[:, 0].tolist()
    for k, (cells, start_s) in enumerate(
        zip(page_words.episode_cells(page), starts_s, strict=True)
    ):
        number = f"{k + 1:,}"
        if k in shown:
            number = f'<button type="button" aria-expanded="false">{number}</button>'
        states = " ".join(n for n, holds in (("short", short[k]), ("open", untold[k])) if holds)
        kind = f' class="{states}"' if states else ""
        first = _start(page, cells[0], start_s)
        inside = "".join(f"<td>{escape(cell)}" for cell in cells[1:])
        rows.append(f'<tr data-n="{k + 1}"{kind}><td>{number}<td>{first}{inside}')
    return (
        '<div class="wide tall" tabindex="0" role="region" aria-label="Episodes">'
        f'<table class="episodes"><thead><tr>{head}</tr></thead>\n<tbody>'
        + "\n".join(rows)
        + "</tbody></table></div>"
    )


def _start(page: Page, words: str, start_s: float) -> str:
    """When an episode starts, as a link to where a person looks at it."""
    if not page.look:
        return escape(words)
    return f'<a href="{escape(page.look)}?at={start_s:.2f}">{escape(words)}</a>'


def _untold(page: Page) -> Iterator[str]:
    """What cannot be told: a row each, and strips of the longest."""
    if not len(page.long_untold):
        return
    yield f"<h2>Cannot tell ({len(page.long_untold):,})</h2>"
    yield f"<p>{escape(page_words.UNTOLD_NOTE)}</p>"
    yield _table(page_words.UNTOLD_COLUMNS, page_words.untold_rows(page), "untold")
    yield from map(_figure, untold_strips(page))


def _figure(strip: Strip) -> str:
    """A strip below its caption, true to scale."""
    cut = " (cut at the paper's edge)" if strip.cut else ""
    drawing = svg(draw_strip(strip), "true", true_scale=True)
    return (
        f'<figure class="strip"><figcaption>{escape(strip.caption)}{cut}</figcaption>'
        f'<div class="wide" tabindex="0">{drawing}</div></figure>'
    )


def _how_sure(page: Page) -> Iterator[str]:
    if page.network_figures and page.burden is not None:
        yield f"<h2>{escape(page_words.SURE_TITLE)}</h2>"
        yield _table(page_words.SURE_COLUMNS, page_words.sure_rows(page))
        yield f"<p>{escape(page_words.SURE_NOTE)}</p>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]], classes: str = "rates") -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="wide" tabindex="0"><table class="{classes}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _details(page: Page) -> Iterator[str]:
    yield "<h2>What was analysed, and by what</h2>"
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in page_words.details(page)
    )
    yield f'<div class="wide"><table class="facts"><tbody>{rows}</tbody></table></div>'
