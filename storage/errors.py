"""Every error this project raises for bad data. Misuse of a function raises ValueError instead.

HolterError
├── SpecError               a data-set TOML that cannot be used
├── DownloadError           a file, or a whole data set, that cannot be had from its server
├── RecordError             one record that cannot be used; the others go on
│   ├── UnsafeName          a record or file name that leaves its folder
│   ├── MissingFile         a file the record needs is not there
│   ├── TruncatedSignal     a signal file shorter than its header says
│   ├── HeaderMismatch      a header that cannot be read, or does not fit its signal
│   ├── ChecksumMismatch    bytes that differ from the data set's SHA256SUMS
│   ├── BadAnnotation       an annotation file that cannot be read
│   ├── BadLabel            a label of a whole record that cannot be used, or two that differ
│   ├── Withdrawn           a recording of a person who withdrew their consent
│   ├── NoRhythm            no rhythm annotation where the data set needs one
│   ├── UnknownRhythm       a rhythm the data set's TOML does not name
│   ├── NoLead              none of the wanted leads
│   ├── UnusableSignal      NaN, flat or constant throughout
│   └── TooFewBeats         fewer than three beats
├── DecisionError           a decision about a passage that cannot be kept, or a damaged log
├── BackupError             a backup that cannot be taken, or put back
├── ConsentError            a withdrawal that cannot be carried out, or a list of them unreadable
├── PlaceError              a folder or bucket that cannot be written, or does not answer
├── TableError              a beat table or manifest that is damaged or of another version
├── TooManyFailed       more records that failed than a training takes
├── TrainingStopped         a training's process that ended before its training
├── SplitError              a split that cannot be made, or a patient on both sides
├── ModelError              a model file that cannot be run, or inputs that do not fit it
├── ParityError             an exported model that does not answer as its source does
├── RegistryError           the MLflow server: out of reach, or not holding what was expected
│   ├── NotInRegistry       no such run, experiment, model or file
│   ├── OutOfReach          no answer, or that it cannot now: to be tried again
│   └── DigestMismatch      bytes from the registry that are not what the manifest says
├── SignatureError          a release that no trusted key signed, or that was changed since
├── PolicyError             a promotion policy that cannot be used
├── PromotionError          a version that its alias's policy refuses, or an alias with no way back
├── DeviceError             a device that did not answer, or answered with a failure
├── WorkersGone             a cluster that has had no worker for long
└── ServerError             a Prefect or MLflow server that did not start, or does not answer
"""

from __future__ import annotations

from storage.addresses import without_credentials


class HolterError(Exception):
    """The root of the tree: a message a user can act on, without a traceback.

    Addresses in it are without the credentials that they were written with.
    """

    def __str__(self) -> str:
        return without_credentials(super().__str__())


class SpecError(HolterError):
    """A data-set TOML that cannot be used."""


class DownloadError(HolterError):
    """A file, or a whole data set, that cannot be had from its server."""


class RecordError(HolterError):
    """One record that cannot be used.

    Parameters
    ----------
    record : str
        The record's name.
    actual, expected : str
        What was there, and what should have been.
    file : str, optional
        The file at fault, relative to the data set's folder.
    """

    def __init__(self, record: str, actual: str, expected: str, file: str | None = None) -> None:
        self.record, self.actual, self.expected, self.file = record, actual, expected, file
        place = f"record {record}" + (f", file {file}" if file else "")
        super().__init__(f"{place}: found {actual}; expected {expected}")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the four parts, so that a worker process can hand the error back."""
        return type(self), (self.record, self.actual, self.expected, self.file)


class UnsafeName(RecordError):
    """A record or file name that leaves its folder."""


class MissingFile(RecordError):
    """A file the record needs is not there."""


class TruncatedSignal(RecordError):
    """A signal file shorter than its header says."""


class HeaderMismatch(RecordError):
    """A header that cannot be read, or does not fit its signal."""


class ChecksumMismatch(RecordError):
    """Bytes that differ from the data set's SHA256SUMS."""


class BadAnnotation(RecordError):
    """An annotation file that cannot be read."""


class BadLabel(RecordError):
    """A label of a whole record that cannot be used, or two that differ."""


class NoRhythm(RecordError):
    """No rhythm annotation where the data set needs one."""


class Withdrawn(RecordError):
    """A recording of a person who withdrew their consent."""

    def __init__(self, record: str, withdrawal: str) -> None:
        self.withdrawal = withdrawal
        actual = f"a recording whose use was withdrawn (withdrawal {withdrawal})"
        super().__init__(record, actual, "one that may be used")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by its two parts."""
        return type(self), (self.record, self.withdrawal)


class UnknownRhythm(RecordError):
    """A rhythm the data set's TOML does not name."""


class NoLead(RecordError):
    """None of the wanted leads."""


class UnusableSignal(RecordError):
    """A signal that is NaN, flat or constant throughout."""


class TooFewBeats(RecordError):
    """Fewer than three beats."""


class PlaceError(HolterError, OSError):
    """A folder or bucket that cannot be written, or does not answer; `errno` is the system's."""

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the number, so that a worker process can hand the error back."""
        return type(self), (str(self), self.errno)


class TableError(HolterError):
    """A beat table or manifest that is damaged or of another version."""


class TooManyFailed(HolterError):
    """More records that failed than a training takes."""


class TrainingStopped(HolterError):
    """A training's process that ended before its training."""


class SplitError(HolterError):
    """A split that cannot be made, or a patient on both sides of one."""


class ModelError(HolterError):
    """A model file that cannot be run, or inputs that do not fit it."""


class ParityError(HolterError):
    """An exported model that does not answer as its source does."""


class RegistryError(HolterError):
    """The MLflow server: out of reach, or not holding what was expected."""


class NotInRegistry(RegistryError):
    """No such run, experiment, model or file."""


class OutOfReach(RegistryError):
    """The server did not answer, or said that it cannot now: try again later."""


class DigestMismatch(RegistryError):
    """Bytes from the registry that are not what the manifest says."""


class SignatureError(HolterError):
    """A release that no trusted key signed, or that was changed since."""


class PolicyError(HolterError):
    """A promotion policy that cannot be used."""


class PromotionError(HolterError):
    """A version that its alias's policy refuses, or an alias with no way back."""


class DeviceError(HolterError):
    """A device that did not answer, or answered with a failure."""


class WorkersGone(HolterError):
    """A cluster that has had no worker for long."""


class ServerError(HolterError):
    """A Prefect or MLflow server that did not start, or does not answer."""


class BackupError(HolterError):
    """A backup that cannot be taken, or an archive that cannot be put back."""


class DecisionError(HolterError):
    """A decision about a passage that cannot be kept, or a log of them that is damaged."""


class ConsentError(HolterError):
    """A withdrawal of consent that cannot be carried out, or a list of them that is unreadable."""
