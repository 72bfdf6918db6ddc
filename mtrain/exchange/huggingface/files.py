"""Reads and writes the files of a Hugging Face folder: JSON, and tensors in safetensors."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtrain.errors import UserError
from mtrain.text.lines import make_readable

WEIGHTS, INDEX, PICKLE = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises UserError if it is missing or damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: there is no such file", "this is not a folder in Hugging Face's layout"
        ) from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: this is not JSON") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a JSON object was expected")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by their names."""
    whole = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    save_file(whole, folder / WEIGHTS, {"format": "pt"})
    make_readable(folder / WEIGHTS)


class Tensors:
    """The tensors of a folder by name."""

    def __init__(self, folder: Path, auto_class: str = "AutoModelForSeq2SeqLM") -> None:
        """Open model.safetensors, or its parts. Nothing is ever unpickled.

        `auto_class` is what loads such a model in `transformers`.
        """
        self.folder = folder
        self._auto_class = auto_class
        self._files: dict[str, Any] = {}
        self._taken: set[str] = set()
        for path in self._paths():
            try:
                file: Any = safe_open(path, framework="pt")
            except FileNotFoundError:
                raise UserError(f"{path}: there is no such file") from None
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"{path}: this file is damaged: {error}", "download it again"
                ) from None
            self._files |= dict.fromkeys(file.keys(), file)

    def _paths(self) -> list[Path]:
        folder = self.folder
        if (folder / WEIGHTS).is_file():
            return [folder / WEIGHTS]
        if (folder / INDEX).is_file():
            parts = read_json(folder / INDEX).get("weight_map", {})
            return [folder / name for name in sorted(set(parts.values()))]
        if (folder / PICKLE).is_file():
            raise UserError(
                f"{folder / PICKLE}: a pickle can run any program, and is not read",
                'convert it with: python -c "from transformers import '
                f"{self._auto_class} as M; "
                f"M.from_pretrained('{folder}').save_pretrained('{folder}')\"",
            )
        raise UserError(f"{folder}: there is no {WEIGHTS}")

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def take(self, name: str, shape: Sequence[int | None]) -> Tensor:
        """Return a tensor in fp32; None in `shape` stands for any length.

        Raises UserError if it is missing or has another shape.
        """
        if name not in self._files:
            raise UserError(
                f"{self.folder}: there is no tensor {name}",
                "config.json describes a tensor that the file lacks",
            )
        tensor: Tensor = self._files[name].get_tensor(name).to(torch.float32)
        self._taken.add(name)
        found = tuple(tensor.shape)
        wanted = tuple(shape)
        if len(found) != len(wanted) or any(
            size not in (None, other) for size, other in zip(wanted, found, strict=True)
        ):
            raise UserError(
                f"{self.folder}: the tensor {name} has the shape {found}; config.json implies "
                f"{wanted}"
            )
        return tensor

    def take_tied(self, names: Sequence[str], shape: Sequence[int | None]) -> Tensor:
        """Return the tensor that is stored under one or several of `names`.

        Raises UserError if those differ, or if there is none.
        """
        present = [name for name in names if name in self] or names[:1]
        first, *others = (self.take(name, shape) for name in present)
        for name, other in zip(present[1:], others, strict=True):
            if not torch.equal(first, other):
                raise UserError(
                    f"{self.folder}: config.json ties {present[0]} to {name}, but they differ"
                )
        return first

    def leave_out(self, names: re.Pattern[str]) -> bool:
        """Take the tensors of these names as read; return whether there are any."""
        found = {name for name in self._files if names.fullmatch(name)}
        self._taken |= found
        return bool(found)

    def refuse_others(self, known: re.Pattern[str]) -> None:
        """Raise UserError if a tensor was not taken and has none of the known names."""
        left = sorted(name for name in self._files.keys() - self._taken
                      if not known.fullmatch(name))  # fmt: skip
        if left:
            raise UserError(
                f"{self.folder}: {len(left)} tensors are not explained by config.json, such as "
                f"{left[0]}"
            )
