"""The hash that a compiled file carries of its own text.  The standard library only.

A hash says whether the text is as it was written, not who wrote it.
"""

from __future__ import annotations

import hashlib
import re

VERSION = 4  # of the form of a compiled file and its certificate
BLANK = "0" * 64

_SEAL = re.compile(r'(?<="file_sha256": ")[0-9a-f]{64}(?=")')


def unified(text: str) -> str:
    """The text with plain line ends, which are no change."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def sealed(source: str) -> str:
    """The source with its own hash in it."""
    if len(_SEAL.findall(source)) != 1:
        raise AssertionError("a certificate has one field file_sha256")
    return _SEAL.sub(_hash(source), source)


def intact(text: str) -> bool:
    """Is the hash that the text carries its own?"""
    found = _SEAL.findall(text)
    return len(found) == 1 and found[0] == _hash(unified(text))


def _hash(text: str) -> str:
    return hashlib.sha256(_SEAL.sub(BLANK, text).encode("utf-8", "surrogatepass")).hexdigest()
