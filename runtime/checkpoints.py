"""Checkpoints in files: a state dict as `torch.save` writes it, or a safetensors file; told apart by what they hold.

A file of torch is opened with `weights_only=True`: tensors, no code.  safetensors is imported when such a file is met.

Not here: which parameters a gauge moves; checkpoints in several files, or in a dict of others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: its entries by name, on the CPU; notes: the texts of a safetensors file, None of torch's."""

    entries: dict[str, Any]
    notes: dict[str, str] | None = None


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Raises OSError where there is none, ImportError where safetensors is missing, ValueError for what is no mapping of
    names to tensors.
    """
    with Path(path).open("rb") as stream:
        start = stream.read(9)
    if start[8:] == b"{":  # after the length of its header
        return _safe(path)
    try:
        entries = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever a broken file makes torch say
        raise ValueError(
            f"{path} is no checkpoint: torch.load(…, weights_only=True) says {_first_line(error)!r}"
        ) from error
    if not isinstance(entries, dict) or not any(isinstance(x, Tensor) for x in entries.values()):
        held = f"a dict of {', '.join(map(str, entries))}" if isinstance(entries, dict) else type(entries).__name__
        raise ValueError(f"{path} holds no tensors by name but {held}: save a model's state_dict() by itself")
    return Checkpoint(entries)


def write(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a checkpoint in the form that it was read in; what stands at the path is replaced when all is written."""
    part = Path(path).with_name(f"{Path(path).name}.part")
    try:
        if checkpoint.notes is None:
            torch.save(checkpoint.entries, part)
        else:
            _save_file()(_apart(checkpoint.entries), str(part), metadata=checkpoint.notes or None)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _safe(path: str | Path) -> Checkpoint:
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {}))
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {_first_line(error)}") from error


def _safetensors() -> Any:
    try:
        import safetensors
    except ImportError as error:
        raise ImportError("a .safetensors file needs safetensors: pip install 'gaugec[checkpoints]'") from error
    return safetensors


def _save_file() -> Any:
    from safetensors.torch import save_file

    return save_file


def _apart(entries: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors that share no memory, which such a file cannot hold."""
    seen: set[int] = set()
    out = {}
    for name, x in entries.items():
        shared = x.untyped_storage().data_ptr() in seen
        seen.add(x.untyped_storage().data_ptr())
        out[name] = x.clone(memory_format=torch.contiguous_format) if shared else x.contiguous()
    return out


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
