"""A disk that fills up."""

import errno
import os

import pytest


def full_disk_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    left, sync = [writes], os.fsync

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
