"""Addresses as they may be shown: without the credentials that people write into them."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

#: `user:password@` of an address; also where a `/`, `?` or `#` in the password is not quoted.
_USER = re.compile(r"""(?<=://)(?:[^\s"'<>/?#]*|[^\s"'<>/?#\[\]:@]+:(?!\d*[/?#])[^\s"'<>@]*)@""")
#: The value of a field of a query whose name says that it is a secret: those of signed addresses.
_FIELD = re.compile(
    r"""(?i)(?<=[?&])([\w.-]*(?:token|secret|password|sig|key|credential)[\w.-]*=)[^\s&#"'<>]+"""
)


def without_credentials(text: str) -> str:
    """The same text; in each address within it no user, no password, no signature or key.

    Every address that is printed, logged or kept passes here: those of an error by
    `storage.errors.HolterError`.
    """
    return _FIELD.sub(r"\1***", _USER.sub("", text))


def credentials(address: str) -> tuple[str, str]:
    """User and password that are written into an address (RFC 3986, 3.2.1); "" for each not there.

    Raises
    ------
    ValueError
        It is no address.
    """
    parts = urlsplit(address)
    return unquote(parts.username or ""), unquote(parts.password or "")
