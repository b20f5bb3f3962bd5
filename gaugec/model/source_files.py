"""Whose a file of code is: torch's, gaugec's, Python's own, of an installed package, or a user's.

What this module does not do: it reads no file, but for a line that people are shown.
"""

from __future__ import annotations

import functools
import os
import sysconfig
import traceback

import torch

from gaugec.errors import printable

TORCH_FOLDER = os.path.dirname(torch.__file__)
_FOLDERS = {
    "torch": (TORCH_FOLDER,),
    "gaugec": (os.path.dirname(os.path.dirname(__file__)),),
    "package": (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")),
    "python": (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")),  # may hold the packages
}
_HOMES = [(name, os.path.realpath(folder) + os.sep) for name, folders in _FOLDERS.items() for folder in folders]


@functools.lru_cache(65536)
def home(file: str) -> str:
    """ "torch", "gaugec", "python", "package" or "user"; what was made of a text at run time is a user's."""
    if file.startswith("<"):
        return "python" if file.startswith("<frozen") else "user"
    real = os.path.realpath(file)
    found = next((name for name, folder in _HOMES if real.startswith(folder)), "user")
    strangers = found in ("python", "user") and "site-packages" in real.split(os.sep)
    return "package" if strangers else found


def is_guest(file: str) -> bool:
    """Is a file of code a user's or an installed package's?"""
    return home(file) in ("package", "user")


def line_of(error: BaseException) -> str:
    """`file.py:12: code`: the innermost line of a guest where an exception, or what it came from, was raised; or ""."""
    seen: BaseException | None = error
    while seen is not None:
        frames = [f for f in traceback.extract_tb(seen.__traceback__) if is_guest(f.filename) and f.filename[:1] != "<"]
        if frames:
            return printable(f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}: {frames[-1].line}"[:200])
        seen = seen.__cause__ or seen.__context__
    return ""


__all__ = ["TORCH_FOLDER", "home", "is_guest", "line_of"]
