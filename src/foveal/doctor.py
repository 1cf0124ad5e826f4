"""What this environment has and lacks, every finding with its cure."""

from __future__ import annotations

import importlib
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from foveal.launch import cores

NEEDED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "lightning_fabric": "lightning-fabric",
    "safetensors": "safetensors",
    "cv2": "opencv-python-headless",
    "tifffile": "tifffile",
    "imagecodecs": "imagecodecs",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "polars": "polars",
}


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
    found += [_library(module, name) for module, name in NEEDED.items()]
    found += [_device(), _memory(), _disk()]
    return found


def _library(module: str, name: str) -> Finding:
    try:
        importlib.import_module(module)
        return Finding(name, is_fine=True, words=version(name))
    except PackageNotFoundError:
        return Finding(name, is_fine=True, words="there, its version unknown")
    except (ImportError, RuntimeError, OSError) as error:
        words = str(error).strip().splitlines()[0]
        if "nms" in words or module in ("torchvision", "timm"):
            cure = (
                "torch and torchvision come from different builds; install both from one place: "
                "pip install --force-reinstall torch torchvision"
            )
        else:
            cure = f"pip install {name}"
        return Finding(name, is_fine=False, words=words, cure=cure)


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
    import os

    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 1e9
    return Finding(
        "memory", free > 2, f"{free:.1f} GB free", "close other programs; a job takes 1.5 GB"
    )


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return Finding("disk", free > 2, f"{free:.0f} GB free here", "studies and caches need a few GB")


def probe() -> dict[str, Any]:
    """Time a training step of a small network in a few ways; a suggestion, never a decision."""
    import timm
    import torch

    model = timm.create_model("mobilenetv3_small_050", num_classes=1)
    images = torch.rand(16, 3, 128, 128)
    before = torch.get_num_threads()
    rates: dict[str, float] = {}
    try:
        for layout in ("contiguous", "channels_last"):
            memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
            shaped, batch = model.to(memory_format=memory), images.contiguous(memory_format=memory)
            for threads in sorted({1, cores()}):
                torch.set_num_threads(threads)
                best = min(_step_seconds(shaped, batch) for _ in range(4))
                rates[f"layout={layout}, {threads} threads"] = round(len(images) / best, 1)
    finally:
        torch.set_num_threads(before)
    return {"images_per_second": rates, "suggestion": max(rates, key=lambda name: rates[name])}


def _step_seconds(model: Any, images: Any) -> float:
    started = time.perf_counter()
    model(images).square().mean().backward()
    return time.perf_counter() - started
