"""What a version's page in MLflow says first: where its aliases are, who decided what, and links.

The text is made from the ledger, signed, and stands before the description that was sealed.
`holter verify` compares both. Its links have no address in them: they stay right where the server
moves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect.runtime import flow_run

from storage.audit import chain, ledger
from storage.audit.ledger_entry import CARD, ROLLED_BACK, Entry, deed, of_version
from storage.audit.ledger_run import ledger_run
from storage.audit.lineage import aliases_on, read_lineage
from storage.audit.outcomes import newest_drift
from storage.errors import HolterError, RegistryError
from storage.files import write_bytes
from storage.logs import log
from storage.registry import tracking
from storage.registry.client import call
from storage.registry.signing import read_description, sign_description, trusted_keys
from storage.registry.tags import CARD_FOLDER, LINEAGE_FOLDER
from storage.tables.beats_manifest import Manifest
from tasks.learning.splits import SIDES
from tasks.pages.lineage_page import html
from tasks.pages.markup import inline, line

#: MLflow keeps no longer description where its database is not SQLite.
MOST_CHARACTERS = 5_000
#: Decisions of a page; the ledger has them all.
MOST_DECISIONS = 10
#: The alias that is told of first.
FIRST = "champion"
#: The longest that is shown of a reason.
MOST_REASON = 200
#: What may be markup or become a link in MLflow's Markdown, which knows GitHub's mentions.
_MARKUP = re.compile(r"[\\`*_{}\[\]()<>#+!~=|:@&\"$^]|(?<=www)\.|^[-\d]", re.IGNORECASE)


def plain_text(text: str) -> str:
    """Text from outside in MLflow's Markdown: a character that may be markup is an entity of it."""
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", line(text)[:MOST_REASON])


@dataclass(frozen=True)
class Facts:
    """What a page is made of.

    Attributes
    ----------
    version : int
        The version.
    aliases : tuple of str
        Those that are on it, by the ledger.
    entries : sequence of Entry
        What the ledger has of it, first to last.
    links : mapping of str to str
        What there is to read further, by name.
    runs : mapping of str to str
        Links to the runs that entries and the look for drift name, by run id, of those that exist.
    drift : tuple of (str, int, str) or None
        The newest look for drift: its run's id, its time in ms since 1970, and its outcome.
    """

    version: int
    aliases: Sequence[str]
    entries: Sequence[Entry]
    links: Mapping[str, str]
    runs: Mapping[str, str]
    drift: tuple[str, int, str] | None


def page_text(facts: Facts, most: int) -> str:
    """The page's Markdown, of at most so many characters: old decisions are left out first."""
    for count in range(MOST_DECISIONS, -1, -1):
        text = "\n".join(_lines(facts, count))
        if len(text) <= most:
            return text
    return ""


def _lines(facts: Facts, count: int) -> Iterator[str]:
    for alias in sorted(facts.aliases, key=lambda alias: (alias != FIRST, alias)):
        moves = [e for e in facts.entries if e.action == ledger.ALIAS and _moves(e, alias, facts)]
        for move in moves[-1:]:
            back = "rolled back to this one" if ROLLED_BACK in move.details else "moved here"
            title = plain_text(alias[:1].upper() + alias[1:])
            person, reason = plain_text(move.who), plain_text(move.reason)
            yield f"**{title}** since {_minute(move)} UTC, {back} by {person}: {reason}"
            yield ""
    if not facts.aliases:
        yield "**No alias** is on this version."
        yield ""
    yield " · ".join(f"[{name}]({link})" for name, link in facts.links.items())
    yield ""
    if facts.drift:
        run_id, at_ms, outcome = facts.drift
        minute = datetime.fromtimestamp(at_ms / 1000, tz=timezone.utc).strftime("%Y-%m-%d %H:%M")
        look = _with_link(f"Drift, looked for {minute} UTC", facts.runs.get(run_id))
        yield f"{look}: {plain_text(outcome)} (as its run says, which nobody signed)."
        yield ""
    decisions = [entry for entry in reversed(facts.entries) if entry.action != CARD]
    if rows := decisions[:count]:
        yield "| when, UTC | what | by | why |"
        yield "|---|---|---|---|"
        for entry in rows:
            action = _with_link(plain_text(deed(entry)), facts.runs.get(_run_of(entry)))
            yield (
                f"| {_minute(entry)} | {action} | {plain_text(entry.who)} "
                f"| {plain_text(entry.reason)} |"
            )
        yield ""
    more = len(decisions) - len(rows)
    yield (f"{more} more in the ledger. " if more else "") + "Signed; `holter verify` compares it."


def _with_link(words: str, link: str | None) -> str:
    return f"[{words}]({link})" if link else words


def _run_of(entry: Entry) -> str:
    return entry.details.get("run_id", "")


def _run_links(run_ids: Iterable[str]) -> dict[str, str]:
    """The links to runs that MLflow has."""
    links = {}
    for run_id in filter(None, run_ids):
        with suppress(RegistryError):
            links[run_id] = tracking.run_link(run_id)
    return links


def _moves(entry: Entry, alias: str, facts: Facts) -> bool:
    return entry.version == facts.version and entry.details["alias"] == alias


def _minute(entry: Entry) -> str:
    at = datetime.fromisoformat(entry.time_utc).astimezone(timezone.utc)
    return at.strftime("%Y-%m-%d %H:%M")


def renew_page(name: str, version: int) -> None:
    """Write what the ledger says of a version before its sealed description.

    After a decision its lineage page is logged to its run too; reports and evaluations are many.

    Raises
    ------
    SignatureError
        Somebody edited the description: it stays, for `holter verify` to tell.
    HolterError
        What is needed cannot be read, or the page not be written.
    """
    keys = trusted_keys()
    entries = ledger.trusted_entries(name, keys)
    registration = chain.registration(entries, version)
    model = chain.resolve(f"{name}/{version}")
    sealed = chain.read_chain(registration, model.reference, keys).document["model"]
    description, history = sealed.get("description"), of_version(entries, version)
    if description is None:
        return  # nothing says what it was
    if model.description != description:
        read_description(name, version, description, model.description)  # or it was edited
    recent = [entry for entry in history if entry.action != CARD][-MOST_DECISIONS:]
    if recent[-1].action != ledger.EVALUATED:
        _log_lineage(model, keys)
    files = {"Model card": (CARD_FOLDER, "card.html"), "Lineage": (LINEAGE_FOLDER, "lineage.html")}
    links = {"Training": tracking.run_link(model.run_id)}
    for title, (folder, file) in files.items():
        if call("GET", "artifacts/list", run_id=model.run_id, path=folder).get("files"):
            links[title] = tracking.file_link(model.run_id, f"{folder}/{file}")
    if run := ledger_run(name, make=False):
        links["Ledger"] = tracking.run_link(run["info"]["run_id"])
    drift = newest_drift(name, version)
    runs = {_run_of(entry) for entry in recent} | ({drift[0]} if drift else set())
    facts = Facts(
        version=version,
        aliases=aliases_on(ledger.aliases(entries), version),
        entries=history,
        links=links,
        runs=_run_links(runs),
        drift=drift,
    )
    last = max(entry.sequence for entry in history)
    room = MOST_CHARACTERS - len(sign_description(name, version, description, last, ""))
    if text := page_text(facts, room):
        signed = sign_description(name, version, description, last, text)
        tracking.describe_version(model, signed)


def _log_lineage(model: tracking.ModelVersion, keys: set[str]) -> None:
    page = html(read_lineage(model.reference, keys))
    with TemporaryDirectory() as folder:
        path = write_bytes(Path(folder) / "lineage.html", page.encode())
        tracking.log_file(model.run_id, path, LINEAGE_FOLDER)


def renew_or_tell(name: str, version: int) -> None:
    """Renew a page; one that cannot be written is told, as its decisions stand in the ledger."""
    try:
        renew_page(name, version)
    except HolterError as error:
        log.warning(f"the page of {name}/{version} is as before: {error}")


def renew_pages(*entries: Entry) -> None:
    """Renew the pages of all versions that entries are about, or that an alias left by them."""
    pages = {(entry.model, entry.version) for entry in entries if entry.version is not None}
    pages |= {
        (entry.model, int(before))
        for entry in entries
        if (before := entry.details.get("from", "")).isdecimal()
    }
    for name, version in sorted(pages):
        renew_or_tell(name, version)


def description(first: str, manifests: Sequence[Manifest], sides: Mapping[str, Any]) -> str:
    """A version's description on its page: figures, data sets, subjects, and how to audit it."""
    rows = [
        f"| {inline(m.title)} | {inline(m.version)} | {inline(m.licence)} "
        f"| {len(m.entries)} | `{m.digest()[:12]}` |"
        for m in manifests
    ]
    people = ", ".join(f"{len(sides[side]['subjects'])} {side}" for side in SIDES)
    return "\n".join(
        [
            f"{inline(first)} on the test side.{flow_link()}",
            "",
            "| data set | version | licence | records | digest |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"Subjects: {people}. Whose records, by which code, approved by whom: "
            "`holter lineage`; whether it is still what was sealed: `holter verify`.",
        ]
    )


def flow_link() -> str:
    """A link to the flow run's page in Prefect, in Markdown; empty outside a flow."""
    page = flow_run.get_flow_run_ui_url()
    return f" [The flow run in Prefect]({page})." if page else ""
