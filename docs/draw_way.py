"""Draw docs/images/way.svg, the way of the data: `python docs/draw_way.py`."""

from __future__ import annotations

from pathlib import Path

PICTURE = Path(__file__).parent / "images" / "way.svg"
#: Title, what it is, and the row and column it stands in.
BOXES = (
    ("TOML", "how a folder is read", 0, 0),
    ("Records", "WFDB, EDF, ISHNE", 0, 1),
    ("Beat tables", "Parquet + manifest", 0, 2),
    ("Split", "by patient", 1, 2),
    ("Training", "Keras", 1, 1),
    ("Registry", "MLflow, signed", 1, 0),
    ("Device", "holter-edge", 2, 0),
    ("Report", "metrics, ms, mJ", 2, 1),
    ("Gate", "alias moves or not", 2, 2),
)
#: From, to, and the words on the arrow.
ARROWS = (
    (0, 1, "data add"),
    (1, 2, "ingest"),
    (2, 3, ""),
    (3, 4, "train"),
    (4, 5, "register"),
    (5, 6, ""),
    (6, 7, "evaluate"),
    (7, 8, "compare"),
)
WIDTH, HEIGHT, GAP_X, GAP_Y, EDGE = 170, 62, 92, 44, 12


def corner(number: int) -> tuple[int, int]:
    """Left and upper edge of a box."""
    row, column = BOXES[number][2:]
    return EDGE + column * (WIDTH + GAP_X), EDGE + row * (HEIGHT + GAP_Y)


def box(number: int) -> str:
    """A box with its two lines."""
    x, y = corner(number)
    title, about = BOXES[number][:2]
    middle = x + WIDTH // 2
    return (
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="7"/>'
        f'<text class="t" x="{middle}" y="{y + 27}">{title}</text>'
        f'<text x="{middle}" y="{y + 47}">{about}</text>'
    )


def arrow(start: int, stop: int, words: str) -> str:
    """An arrow between neighbours, along the row or down."""
    (x0, y0), (x1, y1) = corner(start), corner(stop)
    if y0 == y1:
        forward = x1 > x0
        left = x0 + WIDTH if forward else x0
        right = x1 if forward else x1 + WIDTH
        y = y0 + HEIGHT // 2
        label = f'<text class="a" x="{(left + right) // 2}" y="{y - 7}">{words}</text>'
        return f'<line x1="{left}" y1="{y}" x2="{right}" y2="{y}"/>{label}'
    x = x0 + WIDTH // 2
    return f'<line x1="{x}" y1="{y0 + HEIGHT}" x2="{x}" y2="{y1}"/>'


def svg() -> str:
    """The picture; its colours suit a light and a dark page."""
    width, height = 2 * EDGE + 3 * WIDTH + 2 * GAP_X, 2 * EDGE + 3 * HEIGHT + 2 * GAP_Y
    style = (
        "rect{fill:#e8eef7;stroke:#0072B2;stroke-width:1.5}"
        "text{font:13px sans-serif;text-anchor:middle;fill:#333}"
        ".t{font-weight:bold;font-size:15px;fill:#111}.a{fill:#0072B2}"
        "line{stroke:#0072B2;stroke-width:1.8;marker-end:url(#h)}"
    )
    head = (
        '<defs><marker id="h" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#0072B2"/></marker></defs>'
    )
    parts = [box(number) for number in range(len(BOXES))] + [arrow(*one) for one in ARROWS]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>The way of the data</title><style>{style}</style>{head}"
        f"{''.join(parts)}</svg>\n"
    )


if __name__ == "__main__":
    PICTURE.write_text(svg())
