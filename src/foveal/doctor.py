"""What this environment has and lacks, every finding with its cure."""

from __future__ import annotations

import importlib
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from foveal.errors import first_line
from foveal.launch import slots_of
from foveal.machine import cores, free_bytes

NEEDED = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "timm": ("timm",),
    "lightning-fabric": ("lightning_fabric", "lightning.fabric"),
    "safetensors": ("safetensors",),
    "opencv-python-headless": ("cv2",),
    "tifffile": ("tifffile",),
    "imagecodecs": ("imagecodecs",),
    "scikit-image": ("skimage",),
    "scikit-learn": ("sklearn",),
    "polars": ("polars",),
}
"""Packages by the name that pip knows, and the modules of which one has to be there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    is_fine: bool
    words: str
    cure: str = ""


def examine() -> list[Finding]:
    """Look at Python, libraries, devices, memory and disk."""
    found = [
        Finding(
            "python", sys.version_info >= (3, 11), sys.version.split()[0], "Python 3.11 or newer"
        )
    ]
    found += [_library(name, modules) for name, modules in NEEDED.items()]
    found += [_device(), _memory(), _disk()]
    return found


def _library(name: str, modules: Sequence[str]) -> Finding:
    try:
        _import_one_of(modules)
        return Finding(name, is_fine=True, words=version(name))
    except PackageNotFoundError:
        return Finding(name, is_fine=True, words="there, its version unknown")
    except Exception as error:  # noqa: BLE001  a library may break in any way on import
        words = first_line(error)
        if "nms" in words or name in ("torchvision", "timm"):
            cure = (
                "torch and torchvision come from different builds; install both from one place: "
                "pip install --force-reinstall torch torchvision"
            )
        else:
            cure = f"pip install {name}"
        return Finding(name, is_fine=False, words=words, cure=cure)


def _import_one_of(modules: Sequence[str]) -> None:
    """Import the last one, unless another is there."""
    for module in modules[:-1]:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        return
    importlib.import_module(modules[-1])


def _device() -> Finding:
    try:
        import torch

        names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    except (ImportError, RuntimeError, OSError):
        names = []
    if names:
        return Finding("device", is_fine=True, words=f"{len(names)} CUDA: {', '.join(names)}")
    words = f"no CUDA device; {cores()} CPU cores, one training a core"
    return Finding("device", is_fine=True, words=words)


def _memory() -> Finding:
    free = free_bytes() / 1e9
    return Finding(
        "memory", free > 2, f"{free:.1f} GB free", "close other programs; a job takes 1.5 GB"
    )


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return Finding("disk", free > 2, f"{free:.0f} GB free here", "studies and caches need a few GB")


PROBED = {"depthwise": "mobilenetv3_small_050", "plain": "test_byobnet"}
"""A network of either kind, for the fixed rule asks which kind a network is."""


def probe(device: str = "") -> dict[str, Any]:
    """Time a training step in every layout and precision; a suggestion, never a decision.

    One compute thread, as a job has it. Results differ in bits from those of the fixed rule.

    Args:
        device: cpu or cuda; found out if empty.

    Returns:
        `images_per_second` by kind of network and options, and `suggestion`: the options of the
        fastest, by kind of network.

    Raises:
        UsageError: The device is not to be had.
    """
    import timm
    import torch

    place = slots_of(device or None)[0]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rates: dict[str, dict[str, float]] = {}
    try:
        for kind, name in PROBED.items():
            model = timm.create_model(name, num_classes=1).to(place)
            rates[kind] = {
                f"layout={layout} precision={precision}": _rate(model, place, layout, precision)
                for layout in ("contiguous", "channels_last")
                for precision in ("32-true", "bf16-mixed")
            }
    finally:
        torch.set_num_threads(before)
    best = {kind: max(table, key=lambda name: table[name]) for kind, table in rates.items()}
    return {"images_per_second": rates, "suggestion": best}


def _rate(model: Any, device: str, layout: str, precision: str) -> float:
    """Pictures a second of training steps."""
    import torch

    kind = device.partition(":")[0]
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    model = model.to(memory_format=memory)
    images = torch.rand(16, 3, 112, 112, device=device).contiguous(memory_format=memory)
    least = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = model(images).float().square().mean()
        loss.backward()
        if kind == "cuda":
            torch.cuda.synchronize(device)
        least = min(least, time.perf_counter() - started)
    return round(len(images) / least, 1)
