"""What may be used is the least of what the machine has and its control groups grant."""

from pathlib import Path

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from foveal import launch
from foveal.doctor import examine
from foveal.machine import cores, free_bytes, one_thread

MEMORY = "MemTotal: 32000000 kB\nMemFree: 1000000 kB\nMemAvailable: 16000000 kB\n"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 cores with 16 GB to be had, of which 1 GB holds nothing."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    return laid_out(tmp_path, {"proc/meminfo": MEMORY})


def laid_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_memory_that_only_keeps_files_at_hand_is_free(system: Path) -> None:
    assert free_bytes(system) == 16_000_000 * 1024
    assert cores(system) == 8


def test_a_group_of_version_2_or_one_around_it_grants_less(system: Path) -> None:
    group = "sys/fs/cgroup/batch/job"
    laid_out(
        system,
        {
            "proc/self/cgroup": "0::/batch/job\n",
            f"{group}/memory.max": "max\n",
            f"{group}/memory.current": "1000\n",
            f"{group}/cpu.max": "max 100000\n",
            "sys/fs/cgroup/batch/memory.max": "4000000000\n",
            "sys/fs/cgroup/batch/memory.current": "3000000000\n",
            "sys/fs/cgroup/batch/memory.stat": "anon 5\ninactive_file 500000000\n",
            "sys/fs/cgroup/batch/cpu.max": "250000 100000\n",
        },
    )
    assert (free_bytes(system), cores(system)) == (1.5e9, 2)


def test_a_container_of_version_1_grants_less(system: Path) -> None:
    laid_out(
        system,
        {
            "proc/self/cgroup": "4:memory:/docker/ab\n2:cpu,cpuacct:/docker/ab\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000000\n",
            "sys/fs/cgroup/memory/memory.stat": "inactive_file 7\ntotal_inactive_file 100\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert (free_bytes(system), cores(system)) == (500_000_100, 1)


def test_groups_without_a_limit_grant_all(system: Path) -> None:
    laid_out(
        system,
        {
            "proc/self/cgroup": "4:memory:/\n1:cpu:/\nnumber:names:path:with:colons\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert (free_bytes(system), cores(system)) == (16_000_000 * 1024, 8)


def test_a_system_that_says_nothing_is_asked_as_posix_has_it(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0
    assert cores(tmp_path) >= 1


def test_jobs_side_by_side_and_the_doctor_ask_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "cores", lambda: 8)
    monkeypatch.setattr(launch, "free_bytes", lambda: 3.5 * launch.JOB_BYTES)
    monkeypatch.setattr("foveal.doctor.free_bytes", lambda: 1.5e9)
    assert launch.slots_of("cpu") == ["cpu"] * 3
    (memory,) = [f for f in examine() if f.name == "memory"]
    assert (memory.words, memory.is_fine) == ("1.5 GB free", False)


def test_linear_algebra_has_one_thread_as_long_as_that_is_wanted() -> None:
    with threadpool_limits(2):
        with one_thread():
            assert {pool["num_threads"] for pool in threadpool_info()} == {1}
        blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        assert len(blas) > 1  # that of NumPy and that of SciPy
        assert {pool["num_threads"] for pool in blas} == {2}
