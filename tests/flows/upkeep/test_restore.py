"""Archives that somebody else may have written: each is refused whole, and leaves no trace."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.upkeep.archive import FORMAT, HEADER, LIST, PREFIX, SEAL
from flows.upkeep.backup import back_up
from flows.upkeep.restore import restore
from storage.errors import BackupError
from storage.files import sha256_bytes, sha256_folder
from storage.registry.signing import public_key


def members_of(archive: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(archive) as tar:
        return [(member, reader.read()) for member in tar if (reader := tar.extractfile(member))]


def write_members(archive: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


Change = Callable[[list[tuple[tarfile.TarInfo, bytes]]], list[tuple[tarfile.TarInfo, bytes]]]


def renamed(name: str, **fields: Any) -> Change:
    """The last file of the state becomes a member of this name and these fields."""

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> list[tuple[tarfile.TarInfo, bytes]]:
        at = max(n for n, (member, _) in enumerate(members) if member.name.startswith(PREFIX))
        member, data = members[at]
        member.name = name
        for field, value in fields.items():
            setattr(member, field, value)
        return [*members[:at], (member, b"" if fields else data), *members[at + 1 :]]

    return change


def header(**fields: Any) -> Change:
    """The header says something else."""

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> list[tuple[tarfile.TarInfo, bytes]]:
        member, data = members[0]
        return [(member, json.dumps({**json.loads(data), **fields}).encode()), *members[1:]]

    return change


def listed(name: str) -> Change:
    """The list has a file more."""

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> list[tuple[tarfile.TarInfo, bytes]]:
        member, data = members[-1]
        value = json.loads(data)
        value["files"][name] = {"bytes": 1, "sha256": ""}
        return [*members[:-1], (member, json.dumps(value).encode())]

    return change


def without(name: str) -> Change:
    return lambda members: [one for one in members if one[0].name != name]


def altered(members: list[tuple[tarfile.TarInfo, bytes]]) -> list[tuple[tarfile.TarInfo, bytes]]:
    """One byte of a file is another."""
    return [
        (member, b"X" + data[1:] if member.name.endswith("model.bin") else data)
        for member, data in members
    ]


HOSTILE: dict[str, tuple[Change, str]] = {
    "above": (renamed(f"{PREFIX}../evil"), "leaves its folder"),
    "absolute": (renamed("/tmp/evil"), "outside state/"),  # noqa: S108 - a name alone
    "absolute below": (renamed(f"{PREFIX}/etc/evil"), "leaves its folder"),
    "outside": (renamed("evil"), "outside state/"),
    "backslash": (renamed(f"{PREFIX}a\\..\\evil"), "leaves its folder"),
    "control": (renamed(f"{PREFIX}a\x1b[2J"), "cannot be printed"),
    "long": (renamed(PREFIX + "a" * 300), "too long"),
    "keys": (renamed(f"{PREFIX}keys/release.pub"), "no archive of the state has"),
    "servers": (renamed(f"{PREFIX}servers.json"), "no archive of the state has"),
    "link": (renamed(f"{PREFIX}a", type=tarfile.SYMTYPE, linkname="/etc"), "a link"),
    "hard link": (renamed(f"{PREFIX}a", type=tarfile.LNKTYPE, linkname="/etc/x"), "a link"),
    "device": (renamed(f"{PREFIX}a", type=tarfile.CHRTYPE), "a device"),
    "folder": (renamed(f"{PREFIX}a", type=tarfile.DIRTYPE), "a link, a device"),
    "twice": (lambda members: [*members[:2], members[1], *members[2:]], "there twice"),
    "a list that steers a terminal": (listed("a\x1b[2J"), r"has not: 'a\\x1b\[2J'"),
    "more": (renamed(f"{PREFIX}mlflow/more"), "that its list has, and it has not"),
    "less": (without(f"{PREFIX}beats/dataset=a/1.parquet"), "and it has not"),
    "altered": (altered, "differ from their digests: mlflow/artifacts/1/run"),
    "after the list": (lambda members: [*members, members[1]], "after the list"),
    "no list": (without(LIST), "cut off"),
    "no header": (without(HEADER), "at its beginning"),
    "a newer form": (header(format=FORMAT + 1), f"found form {FORMAT + 1}.*upgrade this"),
    "no form": (header(format="1"), "found form '1'"),
    "newer packages": (header(packages={"mlflow": "99.1"}), "mlflow 99.1 .installed: 3"),
    "strange packages": (header(packages={"mlflow": "x"}), "cannot be read"),
    "keys alone": (header(kind="keys"), "found an archive of the 'keys'"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_changes_nothing(home: Path, archive: Path, case: str) -> None:
    """It is refused in words that name what was found, and leaves no trace."""
    change, words = HOSTILE[case]
    write_members(archive, change(members_of(archive)))
    before = sha256_folder(home.parent)
    with pytest.raises(BackupError, match=words):
        restore(archive, replace=True)
    assert sha256_folder(home.parent) == before
    assert {path.name for path in home.parent.iterdir()} == {"home"}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6])
def test_an_archive_that_was_cut_off_is_refused(home: Path, archive: Path, share: float) -> None:
    """So is one that is empty, or no tar at all."""
    data = archive.read_bytes()
    archive.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BackupError, match=r"backup\.tar: found"):
        restore(archive, replace=True)
    archive.write_bytes(os.urandom(4096))
    with pytest.raises(BackupError, match="found a damaged archive"):
        restore(archive, replace=True)
    with pytest.raises(BackupError, match="found no file"):
        restore(archive.with_name("absent.tar"), replace=True)
    assert (home / "keys" / "prefect.key").is_file()


def test_a_sparse_member_unpacks_to_nothing(archive: Path) -> None:
    """A few bytes that stand for many are refused before they are written."""
    members = members_of(archive)
    members[1][0].pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": members[1][0].name,
        "GNU.sparse.realsize": str(1 << 40),
    }
    sparse = b"1\n1099511627775\n1\n".ljust(512, b"\0") + b"x"
    write_members(archive, [members[0], (members[1][0], sparse), *members[2:]])
    with pytest.raises(BackupError, match=r"a sparse file|damaged archive"):
        restore(archive, replace=True)


def test_a_damaged_database_is_refused(archive: Path) -> None:
    """Its digest may fit: that it opens and holds together is asked of SQLite."""
    members = members_of(archive)
    listing = json.loads(next(data for member, data in members if member.name == LIST))
    for number, (member, data) in enumerate(members):
        if member.name.endswith("mlflow.db"):
            broken = data[:4096] + b"\xff" * (len(data) - 4096)
            members[number] = member, broken
            listing["files"]["mlflow/mlflow.db"]["sha256"] = sha256_bytes(broken)
        elif member.name == LIST:
            members[number] = member, json.dumps(listing).encode()
    write_members(archive, members)
    with pytest.raises(BackupError, match=r"found a damaged database mlflow\.db"):
        restore(archive, replace=True)


def test_another_ones_archive_is_refused(home: Path, archive: Path, tmp_path: Path) -> None:
    """Where keys are known, one of them signed it; else it is taken by --any-key alone."""
    public_key()
    with pytest.raises(BackupError, match="signed by no key; expected one that is known here"):
        restore(archive, replace=True)
    back_up(tmp_path / "signed.tar")
    (home / "keys" / "release.key").unlink()
    other = public_key()
    with pytest.raises(BackupError, match=f"expected one that is known here .{other}"):
        restore(tmp_path / "signed.tar", replace=True)
    assert restore(tmp_path / "signed.tar", replace=True, any_key=True).trusted is False


@pytest.mark.usefixtures("home")
def test_a_list_that_was_changed_after_it_was_signed_is_refused(tmp_path: Path) -> None:
    """Digests that were made to fit do not help."""
    public_key()
    back_up(tmp_path / "b.tar")
    members = members_of(tmp_path / "b.tar")
    assert SEAL in {member.name for member, _ in members}
    changed = [
        (member, data.replace(b'"running": []', b'"running": [] '))
        if member.name == LIST
        else (member, data)
        for member, data in members
    ]
    assert changed != members
    write_members(tmp_path / "b.tar", changed)
    with pytest.raises(BackupError, match="not what was signed"):
        restore(tmp_path / "b.tar", replace=True, any_key=True)
