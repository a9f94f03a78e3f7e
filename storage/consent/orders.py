"""Orders: what was to be deleted on request, signed before the first of it went.

An order is a JSON artifact of every training run that it concerns. Its digest is in the ledger's
entry `withdrawn` of the version, which is signed. So `holter verify` tells what was deleted on
request from what is missing. It names no person: tables and recordings are told by a digest of
their digest, which only a sealed chain leads back to its record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from storage.errors import RegistryError
from storage.files import parse_text, sha256_bytes
from storage.registry.client import read_run_file
from storage.registry.tags import EVALUATION_FOLDER

ORDER_VERSION = 1
#: The actions of a ledger's entries: what is to go, and the certificate of what went.
ORDERED, CERTIFIED = "withdrawn", "forgotten"
#: Where both lie among the artifacts of a run.
FOLDER = "withdrawals"
MOST_BYTES = 32 << 20


@dataclass(frozen=True)
class Order:
    """What is to be deleted.

    Attributes
    ----------
    withdrawal, time_utc : str
        Its number, and when it was signed.
    subject : str
        Keyed digest of the person; see `storage.consent.blocks`.
    tables, sources : tuple of str
        Marks of beat tables and of recordings' files, by `mark_of`.
    files : mapping of str to tuple of str
        Artifacts of runs, by run; a name that ends in a slash is a folder,
        of which an outcome stays.
    """

    withdrawal: str
    time_utc: str
    subject: str
    tables: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The order as JSON holds it."""
        return {"order_version": ORDER_VERSION, **asdict(self)}


def mark_of(sha256: str) -> str:
    """How an order names a file, by the file's SHA-256."""
    return sha256_bytes(f"withdrawn {sha256}".encode())


def read_orders(details: Iterable[Mapping[str, str]]) -> list[Order]:
    """The orders that signed entries of a ledger name.

    Parameters
    ----------
    details : iterable of mapping
        The details of the entries `withdrawn` of a version, each signed by a trusted key.

    Raises
    ------
    RegistryError
        One is not what was signed, or is gone.
    """
    orders = []
    for fields in details:
        file, sha256 = fields.get("order", ""), fields.get("order_sha256", "")
        data = read_run_file(fields.get("run_id", ""), file, sha256, MOST_BYTES)
        try:
            document = parse_text(data)
            if (version := document.pop("order_version")) != ORDER_VERSION:
                raise ValueError(f"found version {version}; expected {ORDER_VERSION}")
            orders.append(Order(**document))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(f"order {file}: cannot be read: {error}") from error
    return orders


def links_of(
    orders: Iterable[Order], document: Mapping[str, Any], titles: Mapping[str, str]
) -> set[tuple[str, str]]:
    """What orders have had deleted of a version, by the link of its chain and the name there.

    A name that ends in a slash is of all files below that folder.

    Parameters
    ----------
    orders : iterable of Order
        The orders that concern it.
    document : mapping
        Its sealed chain.
    titles : mapping of str to str
        Its evaluations' runs, and what each is called where it is compared.
    """
    run_id, links = document["run"]["run_id"], set[tuple[str, str]]()
    for order in orders:
        links |= {
            ("decisions" if name.endswith("/") else "artifacts", name)
            for name in order.files.get(run_id, ())
        }
        links |= {
            ("evaluations", title)
            for run, title in titles.items()
            if f"{EVALUATION_FOLDER}/" in order.files.get(run, ())
        }
        tables, sources = set(order.tables), set(order.sources)
        for data in document["datasets"]:
            for entry in data["entries"]:
                if mark_of(entry["sha256"]) in tables:
                    links.add(("beat tables", f"{data['dataset']}/{entry['record']}"))
                links |= {
                    ("sources", f"{data['dataset']}: {file}")
                    for file, sha256 in entry["files"].items()
                    if mark_of(sha256) in sources
                }
    return links
