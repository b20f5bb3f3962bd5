"""Checkpoints in files: a state dict as `torch.save` writes it, a safetensors file, or an index of several of these.

They are told apart by what they hold. An index (`model.safetensors.index.json`) says which entry is in which file
beside it, as transformers writes it.
A file of torch is opened with `weights_only=True`: tensors, no code.  safetensors is imported when such a file is met.

Not here: which parameters a gauge moves; checkpoints in a dict of others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gaugec.runtime.listed import listed


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: its entries by name, on the CPU; notes: the texts of a safetensors file, None of torch's.

    files: of an index, by entry the file that it is in, by file its texts; head: what else the index says.
    """

    entries: dict[str, Any]
    notes: dict[str, str] | None = None
    files: dict[str, str] | None = None
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    head: dict[str, Any] = field(default_factory=dict)


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Raises OSError where there is none, or a file of an index is missing, ImportError where safetensors is missing,
    ValueError for what is no mapping of names to tensors.
    """
    with Path(path).open("rb") as stream:
        start = stream.read(9)
    if start[8:] == b"{":  # after the length of its header
        return _safe(path)
    if start.lstrip()[:1] == b"{":
        return _indexed(Path(path))
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


def beside(checkpoint: Checkpoint, path: str | Path) -> list[Path]:
    """The files that are written beside a path when a checkpoint is written to it."""
    if checkpoint.files is None or Path(path).suffix != ".json":
        return []
    return [Path(path).with_name(name) for name in dict.fromkeys(checkpoint.files.values())]


def write(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a checkpoint in the form that it was read in; what stands at the path is replaced when all is written.

    That of an index is one safetensors file, unless the path is that of an index, `.json`.
    """
    if beside(checkpoint, path):
        _write_indexed(checkpoint, checkpoint.files or {}, Path(path))
        return
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


def _indexed(path: Path) -> Checkpoint:
    """What the files of an index hold."""
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
        files = head.pop("weight_map")
        good = all(isinstance(name, str) and name == Path(name).name for name in files.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no index of a checkpoint: it has no weight_map of names to files") from error
    if not good or not files:
        raise ValueError(f"{path} is no index of a checkpoint: its files stand beside it, by their names alone")
    parts = {name: _safe(path.with_name(name)) for name in dict.fromkeys(files.values())}
    absent = [entry for entry, name in files.items() if entry not in parts[name].entries]
    if absent:
        raise ValueError(f"{path} says that {listed(absent)} is in {files[absent[0]]}, which has it not")
    entries = {entry: parts[name].entries[entry] for entry, name in files.items()}
    texts = {name: part.notes or {} for name, part in parts.items()}
    return Checkpoint(entries, next(iter(texts.values())), files, texts, head)


def _write_indexed(checkpoint: Checkpoint, files: dict[str, str], path: Path) -> None:
    """Every file beside the index by its name, the index last."""
    for name in dict.fromkeys(files.values()):
        entries = {entry: x for entry, x in checkpoint.entries.items() if files.get(entry) == name}
        write(Checkpoint(entries, checkpoint.texts[name]), path.with_name(name))
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps({**checkpoint.head, "weight_map": files}, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


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
