"""Files: where the project keeps them, whole or not at all, and what their bytes digest to."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tempfile
import uuid
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from storage.errors import PlaceError, UnsafeName
from storage.places import Place, Remote, answering, beats_place

AnyPlace = TypeVar("AnyPlace", bound=Path | Remote)
Value = TypeVar("Value")

#: What the system says of a folder in which no file can be made, whatever it is to hold.
UNWRITABLE = (
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EEXIST),
    *(errno.ELOOP, errno.ENAMETOOLONG),
)

#: What Linux's file systems let a name be: a part of it in bytes, and all of it in characters.
MOST_PART_BYTES, MOST_NAME = 255, 1000


def home() -> Path:
    """The state folder: `HOLTER_HOME`, or `.holter` in the working folder."""
    return Path(os.environ.get("HOLTER_HOME", ".holter")).absolute()


@contextmanager
def _writing(folder: Path, description: str = "folder") -> Iterator[None]:
    """What cannot be made in a folder becomes one sentence with the folder's name in it."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:  # a full disk, for one
            raise
        raise PlaceError(
            f"{description} {folder}: found that nothing can be written there ({error.strerror}); "
            "expected one that exists or can be made, and that this user may write",
            error.errno,
        ) from error


def check_writable(folder: Path, description: str) -> Path:
    """Make sure, before any work, that files can be written in a folder that may not exist yet.

    Nothing is made: a file without a name is opened in it, or in the nearest folder above it.

    Raises
    ------
    PlaceError
        Read-only, another user's, below a file, or on something that holds no files.
    """
    ancestor = folder.absolute()
    while not os.path.lexists(ancestor):
        ancestor = ancestor.parent
    with _writing(folder, description), tempfile.TemporaryFile(dir=ancestor):
        return folder


def check_home() -> Path:
    """The state folder, which is to be written."""
    return check_writable(home(), "state folder (HOLTER_HOME)")


def make_folder(folder: Path) -> Path:
    """Make a folder, and those above it, where they are not there.

    Recordings and databases lie in the state folder and in that of the beat tables. Made here,
    these two are for this user alone (mode 700), and what is below them is never for others (770,
    less the umask). One that is there keeps its mode: a group may share it.
    """
    if folder.is_dir():
        return folder
    folder = folder.absolute()
    for private in (home(), beats_place()):
        if isinstance(private, Path) and folder.is_relative_to(private):
            private.mkdir(mode=0o700, parents=True, exist_ok=True)
            below = folder.relative_to(private)
            for level in (*reversed(below.parents), below):
                (private / level).mkdir(mode=0o770, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold a lock of this state folder; whoever else asks for it waits, and it ends with us.

    The system lets go of it when the process ends, however that ends: no lock is ever stale.
    """
    import fcntl  # POSIX only, as is every machine that shares a state folder

    path = home() / "locks" / f"{name}.lock"
    with _writing(path.parent):
        make_folder(path.parent)
        lock = path.open("a")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sweep(folder: Path) -> list[Path]:
    """Remove what killed writers left in a folder that nobody else writes to; gives the names."""
    left = sorted(folder.rglob(".*.partial"))
    for path in left:
        path.unlink(missing_ok=True)
    return left


@contextmanager
def whole(path: Place) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it there on success, remove it on failure.

    A reader sees the old file or the new one, never half of one. What lies outside this machine is
    written here first, and uploaded.

    Raises
    ------
    PlaceError
        No file can be made in its folder, or the bucket does not take it.
    """
    if isinstance(path, Remote):
        with tempfile.TemporaryDirectory(prefix="holter-") as folder:
            yield Path(folder) / path.name
            path.upload(Path(folder) / path.name)
        return
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    with _writing(path.parent):
        make_folder(path.parent)
        partial.touch(exist_ok=False)
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the disk keep a folder's names, so that a rename outlives a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_secret(path: Path, make: Callable[[], bytes]) -> None:
    """Write a secret in hexadecimal digits for its owner alone to read, where there is none yet.

    Raises
    ------
    PlaceError
        No file can be made in its folder.
    """
    if path.exists():
        return
    check_writable(path.parent, "folder of secrets")
    make_folder(home())
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with alone(path.name):
        if not path.exists():  # nobody made one while we waited
            write_secret(path, make().hex())


def read_secret(path: Path) -> bytes:
    """A secret from a file that its owner alone may read.

    Raises
    ------
    OSError
        It cannot be read, or others may read it.
    ValueError
        It is not hexadecimal digits.
    """
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise PermissionError(f"found mode {stat.S_IMODE(mode):o}; expected 600")
    return bytes.fromhex(path.read_text().strip())


def write_bytes(path: AnyPlace, data: bytes) -> AnyPlace:
    """Write `data` at `path`, whole or not at all."""
    with whole(path) as partial:
        partial.write_bytes(data)
    return path


def write_secret(path: Path, text: str) -> Path:
    """Write a key or password at `path`, whole or not at all, for this user alone (mode 600)."""
    with whole(path) as partial:
        partial.chmod(0o600)
        partial.write_text(text)
    return path


def write_json(path: AnyPlace, value: Any) -> AnyPlace:
    """Write `value` as sorted, indented JSON, whole or not at all."""
    return write_bytes(path, json.dumps(value, indent=1, sort_keys=True).encode() + b"\n")


def parse_text(text: str | bytes, parse: Callable[[Any], Any] = json.loads) -> Any:
    """The value of JSON from outside, or of TOML by `tomllib.loads`.

    Raises
    ------
    ValueError
        It cannot be read; also where it is nested so deeply that a parser runs out of stack.
    """
    try:
        return parse(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file; ValueError as above."""
    return parse_text(path.read_bytes())


def read_state(path: Path, kind: type[Value], *names: str) -> Value:
    """A value of a JSON file that this machine keeps, under a name where it is in an object.

    Raises
    ------
    PlaceError
        The file is damaged, or holds another kind of value.
    """
    try:
        content = read_json(path)
        for name in names:
            content = content[name]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise PlaceError(f"state file {path}: found a damaged file ({error}); remove it") from error
    if not isinstance(content, kind):
        raise PlaceError(
            f"state file {path}: found {type(content).__name__}; expected {kind.__name__}; "
            "remove it"
        )
    return content


def check_fields(value: Value) -> Value:
    """A dataclass's value from a file, whose fields are of the kinds it declares; else TypeError.

    What lies within mappings and lists is not looked at.
    """
    hints = get_type_hints(type(value))
    for name, hint in hints.items():
        kinds = tuple(get_origin(member) or member for member in get_args(hint) or (hint,))
        if get_origin(hint) not in (None, Union, UnionType):
            kinds = (get_origin(hint),)
        content = getattr(value, name)
        whole_float = float in kinds and type(content) is int and abs(content) < 1 << 53
        if not isinstance(content, kinds) and not whole_float:
            raise TypeError(f"{name} is {type(content).__name__}; expected {hint}")
        if isinstance(content, bool) and bool not in kinds:
            raise TypeError(f"{name} is bool; expected {hint}")
    return value


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """A file's bytes, of which no more than the limit and one are read; ValueError beyond it."""
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"found over {most_bytes} bytes; at most {most_bytes}")
    return data


def sha256_bytes(data: bytes) -> str:
    """The SHA-256 of `data`, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Place) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    # 256 kB stay in the processor's cache; of a bucket each block is a request.
    is_local = isinstance(path, Path)
    most = 1 << 18 if is_local else 8 << 20
    with answering(path), path.open("rb") as file:
        data = file.read(most)  # all of a small file, without a block's memory
        digest.update(data)
        if len(data) == most or not is_local:
            block = memoryview(bytearray(most))
            while size := file.readinto(block):
                digest.update(block[:size])
    return digest.hexdigest()


def sha256_folder(folder: Path) -> str:
    """The SHA-256 of the names and digests of all files under a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return sha256_json({path.relative_to(folder).as_posix(): sha256_file(path) for path in files})


def sha256_json(value: Any) -> str:
    """The SHA-256 of a value's canonical JSON (sorted keys, no spaces)."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def safe_path(folder: Path, name: str, *, record: str) -> Path:
    """Join `folder` and `name`, which must stay inside the folder, symbolic links resolved.

    Raises
    ------
    UnsafeName
        An empty or absolute name, one with "..", a NUL or a backslash, one too long for a disk, or
        a link that leads out.
    """
    refuse_unsafe(folder, name, record)
    return folder / name


def refuse_unsafe(folder: Path, name: str, record: str) -> None:
    """Raise as `safe_path`, without the path: of thousands of records it costs more than a look."""
    check_name(name, record)
    if _has_link(folder, name) and not (folder / name).resolve().is_relative_to(folder.resolve()):
        inside = "a name inside the data set's folder"
        raise UnsafeName(record, f"{name!r}, a link that leads out of the folder", inside)


@lru_cache(maxsize=64)
def check_name(name: str, record: str) -> None:
    """The words of `safe_path` alone, without a look at the disk; it raises the same."""
    inside = "a name inside the data set's folder"
    parts = name.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        raise UnsafeName(record, f"the name {name!r}", inside)
    if "\\" in name or not name.isprintable():
        raise UnsafeName(record, f"the name {name!r}", inside)
    if len(name) > MOST_NAME or any(len(part.encode()) > MOST_PART_BYTES for part in parts):
        raise UnsafeName(record, f"the name {name[:40]!r}..., {len(name)} long", inside)


def _has_link(folder: Path, name: str) -> bool:
    """Whether a part of a path below the folder is a link: without any it cannot lead out."""
    path = str(folder)
    for part in name.split("/"):
        path = f"{path}/{part}"
        if os.path.islink(path):  # noqa: PTH114 - of each file of thousands of records, many times
            return True
    return False


def is_plain_file(folder: Path, name: str) -> bool:
    """Whether a checked name is of a file below the folder, without a link on the way to it.

    One look at the disk tells that it is there, is a file, and cannot lead out.
    """
    parent = name.rpartition("/")[0]
    if parent and _has_link(folder, parent):
        return False
    try:
        return stat.S_ISREG(os.lstat(f"{folder}/{name}").st_mode)
    except OSError:
        return False


def stored_name(folder: Path, name: str) -> str:
    """A file's name as it is stored, where its suffix or all of its last part is of another case.

    Recorders and old discs write R1.HEA, or r1.EDF, for r1.hea and r1.edf. The name itself goes
    first; it is also given back where no such file is there.
    """
    if os.path.isfile(f"{folder}/{name}"):  # noqa: PTH113 - as above
        return name
    parent, slash, last = name.rpartition("/")
    stem, dot, suffix = last.rpartition(".")
    turns: tuple[Callable[[str], str], ...] = (str.lower, str.upper, str.capitalize)
    forms = [last, *(f"{stem}{dot}{turn(suffix)}" for turn in turns), last.upper(), last.lower()]
    names = (f"{parent}{slash}{form}" for form in dict.fromkeys(forms))
    return next((form for form in names if (folder / form).is_file()), name)


def owner(file: str, names: Container[str], ends: str = ".") -> str | None:
    """The longest of `names` that a file's name begins with, up to one of the characters `ends`."""
    cuts = [at for at in range(len(file) - 1, 0, -1) if file[at] in ends]
    return next((file[:at] for at in cuts if file[:at] in names), None)
