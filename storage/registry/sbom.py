"""The software bill of materials of an environment, from what is installed: CycloneDX 1.6 JSON.

Of equal environments the bytes are equal: it holds no time, and its serial number is made of what
it lists. https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

from storage.errors import HolterError
from storage.files import sha256_json

ROOT = "holter-af"
#: The extras that make each environment; of `server` and `gpu` one is installed.
ENVIRONMENTS = {"training": ("server", "gpu"), "edge": ("edge",)}
#: A licence field longer than this is a licence's text, not its name.
LONGEST_NAME = 100


def normal(name: str) -> str:
    """A distribution's name as an index has it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(
    package: Distribution, extras: frozenset[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    """What a distribution needs here, as (name, extras); itself, where extras share some."""
    from packaging.requirements import Requirement

    for text in package.requires or ():
        need = Requirement(text)
        marks = [{"extra": extra} for extra in (extras or {""})]
        if need.marker is None or any(need.marker.evaluate(mark) for mark in marks):
            yield normal(need.name), frozenset(need.extras)


def sbom(environment: str) -> dict[str, Any]:
    """The bill of materials of the "training" or the "edge" environment.

    It lists what is installed on this machine of all that the project's extra needs, and what
    that needs in turn, with versions, licences and who needs whom.

    Raises
    ------
    ValueError
        No such environment.
    HolterError
        The project itself is not installed.
    """
    if environment not in ENVIRONMENTS:
        raise ValueError(f"environment {environment!r}: there are {', '.join(ENVIRONMENTS)}")
    packages: dict[str, Distribution] = {}
    needs: dict[str, set[str]] = {}
    visits: set[tuple[str, frozenset[str]]] = set()
    waiting = [(ROOT, frozenset(ENVIRONMENTS[environment]))]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in visits:
            continue
        visits.add((name, extras))
        try:
            packages[name] = distribution(name)
        except PackageNotFoundError:  # for another system, or left out: what is not here is no part
            continue
        children = list(requirements(packages[name], extras))
        needs.setdefault(name, set()).update(need for need, _ in children if need != name)
        waiting += children
    if ROOT not in packages:
        raise HolterError(f"{ROOT} is not installed here: pip install -e '.[server]'")
    refs = {name: _purl(name, package.version) for name, package in packages.items()}
    components = [_component(name, packages[name]) for name in sorted(packages) if name != ROOT]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, sha256_json([environment, refs])).urn,
        "version": 1,
        "metadata": {
            "component": _component(ROOT, packages[ROOT], kind="application"),
            "properties": [{"name": "holter:environment", "value": environment}],
        },
        "components": components,
        "dependencies": [
            {"ref": refs[name], "dependsOn": sorted({refs[n] for n in needs[name] if n in refs})}
            for name in sorted(packages)
        ],
    }


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def _component(name: str, package: Distribution, kind: str = "library") -> dict[str, Any]:
    purl = _purl(name, package.version)
    licences = _licences(package)
    return {
        "type": kind,
        "bom-ref": purl,
        "name": name,
        "version": package.version,
        "purl": purl,
        **({"licenses": licences} if licences else {}),
    }


def _licences(package: Distribution) -> list[dict[str, Any]]:
    """What the distribution's metadata says: an SPDX expression, else names."""
    fields: Mapping[str, Any] = package.metadata.json
    if expression := fields.get("license_expression"):
        return [{"expression": expression}]
    names = [
        line.rpartition(" :: ")[2]
        for line in fields.get("classifier", ())
        if line.startswith("License :: ") and not line.endswith("OSI Approved")
    ]
    text = str(fields.get("license", "")).strip()
    if text and len(text) <= LONGEST_NAME and "\n" not in text:
        names = names or [text]
    return [{"license": {"name": name}} for name in names]
