"""Everything that a training needs to go on as if it had never stopped.

Tensors by name in one safetensors file, numbers in its header, written whole or not at all. No
pickle, so a checkpoint from a stranger cannot run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from foveal.files import write_bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file that a training saves to and goes on from.

    Attributes:
        path: The file.
        mark: Digest of all that decides the training; another one's checkpoint is not used.
        every_seconds: Time between saves.
    """

    path: Path
    mark: str
    every_seconds: float = 300.0

    def save(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Replace the file."""
        plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        header = {"mark": self.mark, "numbers": json.dumps(dict(numbers))}
        write_bytes(self.path, save(plain, metadata=header))

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was saved, or None where nothing of this training was."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("mark") != self.mark:
                    return None
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118  it is no dict
            return tensors, json.loads(header["numbers"])
        except (SafetensorError, OSError, ValueError, KeyError):
            return None


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{k}.{name}": torch.as_tensor(v) for k, s in state.items() for name, v in s.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser back the state that `optimizer_tensors` took, which stays as it is.

    It would else take over what has the right kind already, such as its count of steps, and count
    on in place: whoever goes back to the same tensors twice would not come to the same place.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value.clone()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, own in optimizer.state.items():
        for name, value in own.items():
            if value.shape == parameter.shape:  # in its layout: another one rounds otherwise
                own[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
