"""A cache changes when pictures are made, never which."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from foveal.errors import DataError, DiskFullError, Stopped
from foveal.train.cache import BLOCK, Direct, Mapped, _begin, begin, cached, seconds_to_make


def made(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 65_536, (3, 4, 2), dtype=np.uint16)


def some_fail(row: int) -> np.ndarray:
    if row in (0, 3):
        raise DataError(f"row {row} is no picture")
    return made(row)


def cache(folder: Path, make=made, count: int = 7, **options) -> Mapped | Direct:
    options = {"threads": 2, "limit_bytes": 1e9} | options
    return cached(folder / "deep" / "pictures.npy", make, count, **options)


def test_a_mapped_cache_and_a_direct_one_give_the_same(tmp_path):
    size = made(0).nbytes * 7
    mapped, direct = cache(tmp_path, limit_bytes=size), cache(tmp_path / "b", limit_bytes=size - 1)
    assert (type(mapped), type(direct)) == (Mapped, Direct)
    assert mapped.shape == direct.shape == (3, 4, 2)
    assert mapped.dtype == direct.dtype == np.uint16
    for row in (6, 0, 3):
        np.testing.assert_array_equal(mapped(row), made(row))
        np.testing.assert_array_equal(direct(row), made(row))
    assert not list(tmp_path.glob("b/deep/*.npy"))


def test_a_cache_is_made_once_and_cannot_be_written(tmp_path):
    asked = []

    def make(row: int) -> np.ndarray:
        asked.append(row)
        return made(row)

    cache(tmp_path, make)
    assert set(asked) == set(range(7))
    asked.clear()
    again = cache(tmp_path, make)
    assert asked == []
    with pytest.raises(ValueError, match="read-only"):
        again(2)[0] = 0


def test_the_limit_counts_all_caches_of_a_folder(tmp_path):
    size = made(0).nbytes * 7
    first = cached(tmp_path / "a.npy", made, 7, threads=1, limit_bytes=1.9 * size)
    second = cached(tmp_path / "b.npy", made, 7, threads=1, limit_bytes=1.9 * size)
    third = cached(tmp_path / "c.npy", made, 7, threads=1, limit_bytes=2.9 * size)
    assert [type(c) for c in (first, second, third)] == [Mapped, Direct, Mapped]


def test_the_limit_counts_what_others_are_filling(tmp_path):
    size, others = made(0).nbytes * 7, []

    def slow(row: int) -> np.ndarray:
        if row == 3:  # long after this cache found room for itself
            others.append(cached(tmp_path / "b.npy", made, 7, threads=1, limit_bytes=1.9 * size))
        return made(row)

    first = cached(tmp_path / "a.npy", slow, 7, threads=1, limit_bytes=1.9 * size)
    assert [type(c) for c in (first, *others)] == [Mapped, Direct]


def test_what_was_begun_of_a_cache_is_not_counted_twice(tmp_path):
    stops, size = iter([False, True]), made(0).nbytes * 3 * BLOCK
    with pytest.raises(Stopped):
        cache(tmp_path, count=3 * BLOCK, limit_bytes=size, should_stop=lambda: next(stops))
    assert type(cache(tmp_path, count=3 * BLOCK, limit_bytes=size)) is Mapped


@pytest.mark.parametrize("limit", [1e9, 0])
def test_what_cannot_be_made_is_recorded_with_its_reason(tmp_path, limit):
    reasons = {0: "row 0 is no picture", 3: "row 3 is no picture"}
    for _ in range(2):
        got = cache(tmp_path, some_fail, limit_bytes=limit)
        assert got.failed == reasons
        np.testing.assert_array_equal(got(4), made(4))


def test_without_room_it_is_found_out_once_what_cannot_be_made(tmp_path: Path) -> None:
    asked: list[int] = []
    whole: set[int] = set()

    def make(row: int) -> np.ndarray:
        asked.append(row)
        return made(row) if row in whole else some_fail(row)

    first = cache(tmp_path, make, limit_bytes=0)
    assert set(asked) == set(range(7))
    for back, failed in (((), {0, 3}), ((3,), {0}), ((0, 3), set()), ((), set())):
        asked.clear()
        whole.update(back)
        again = cache(tmp_path, make, limit_bytes=0)
        assert (again.shape, again.dtype) == (first.shape, first.dtype)
        assert set(again.failed) == failed
        assert len(asked) <= 2
        assert not {1, 2, 4, 5, 6} & set(asked)
    assert asked == []
    np.testing.assert_array_equal(again(4), made(4))
    assert isinstance(cache(tmp_path, make), Mapped)


@pytest.mark.parametrize("text", ["", "{}", '{"failed": [], "shape": 3, "dtype": "x"}', "[1]"])
def test_what_was_kept_and_is_harmed_is_found_out_again(tmp_path: Path, text: str) -> None:
    cache(tmp_path, some_fail, limit_bytes=0)
    (kept,) = tmp_path.glob("deep/*.json")
    kept.write_text(text)
    again = cache(tmp_path, some_fail, limit_bytes=0)
    assert set(again.failed) == {0, 3}
    assert json.loads(kept.read_text())["shape"] == [3, 4, 2]


def test_nothing_at_all_is_a_cache_too(tmp_path):
    def fail(row: int) -> np.ndarray:
        raise DataError(f"no {row}")

    assert cache(tmp_path, fail, 3).failed == {0: "no 0", 1: "no 1", 2: "no 2"}
    assert cache(tmp_path, made, 0).failed == {}


def test_a_stopped_cache_is_not_there_and_is_made_again(tmp_path):
    asked = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(Stopped):
        cache(tmp_path, count=5 * BLOCK, should_stop=should_stop)
    assert not list(tmp_path.glob("deep/*.npy"))
    whole = cache(tmp_path, count=5 * BLOCK)
    for row in (0, 2 * BLOCK, 5 * BLOCK - 1):
        np.testing.assert_array_equal(whole(row), made(row))


def test_without_room_what_was_interrupted_is_gone_on_with_and_told_of(tmp_path):
    asked, shares = [], []

    def make(row: int) -> np.ndarray:
        asked.append(row)
        return some_fail(row)

    stops, told = iter([False, False, True]), {"limit_bytes": 0, "prepared": shares.append}
    with pytest.raises(Stopped):
        cache(tmp_path, make, count=5 * BLOCK, should_stop=lambda: next(stops), **told)
    assert set(asked) == set(range(2 * BLOCK))
    asked.clear()
    found = cache(tmp_path, make, count=5 * BLOCK, **told)
    assert set(asked) - {0, 1} == set(range(2 * BLOCK, 5 * BLOCK))  # the first shows the shape
    assert set(found.failed) == {0, 3}
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert not list(tmp_path.glob("deep/*.p*"))


def test_a_look_without_room_leaves_alone_what_another_job_fills(tmp_path):
    stops = iter([False, False, True])
    with pytest.raises(Stopped):
        cache(tmp_path, count=5 * BLOCK, should_stop=lambda: next(stops))
    found = cache(tmp_path, some_fail, count=5 * BLOCK, limit_bytes=0)
    assert (type(found), set(found.failed)) == (Direct, {0, 3})
    asked = []
    whole = cache(tmp_path, lambda row: (asked.append(row), made(row))[1], count=5 * BLOCK)
    assert set(asked) - {0} == set(range(2 * BLOCK, 5 * BLOCK))
    assert type(whole) is Mapped


def test_without_room_jobs_share_what_is_looked_through(tmp_path):
    asked = []

    def make(row: int) -> np.ndarray:
        asked.append(row)
        return some_fail(row)

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda _: cache(tmp_path, make, 5 * BLOCK, limit_bytes=0), range(4)))
    assert all(asked.count(row) == 1 for row in range(BLOCK, 5 * BLOCK))
    assert all(set(one.failed) == {0, 3} for one in got)


def test_a_disk_that_keeps_no_progress_hinders_no_look(tmp_path, monkeypatch):
    def full(path: Path, value: object) -> None:
        raise DiskFullError(f"cannot write {path}")

    monkeypatch.setattr("foveal.train.cache.write_json", full)
    assert set(cache(tmp_path, some_fail, limit_bytes=0).failed) == {0, 3}


@pytest.mark.parametrize("threads", [1, 3])
def test_an_interrupted_cache_is_gone_on_with(tmp_path, threads):
    asked = []

    def make(row: int) -> np.ndarray:
        asked.append(row)
        return some_fail(row)

    stops = iter([False, False, True])
    with pytest.raises(Stopped):
        cache(tmp_path, make, count=5 * BLOCK, threads=threads, should_stop=lambda: next(stops))
    assert set(asked) == set(range(2 * BLOCK))
    asked.clear()
    whole = cache(tmp_path, make, count=5 * BLOCK, threads=threads)
    assert set(asked) - {0, 1} == set(range(2 * BLOCK, 5 * BLOCK))  # the first shows the shape
    assert set(whole.failed) == {0, 3}
    fresh = cache(tmp_path / "fresh", some_fail, count=5 * BLOCK)
    np.testing.assert_array_equal(whole.values, fresh.values)
    assert not list(tmp_path.glob("deep/*.p*"))


def test_what_was_begun_for_another_shape_is_not_used(tmp_path):
    stops = iter([False, True])
    with pytest.raises(Stopped):
        cache(tmp_path, count=3 * BLOCK, should_stop=lambda: next(stops))
    whole = cache(tmp_path, lambda row: made(row)[:2], count=3 * BLOCK)
    np.testing.assert_array_equal(whole(5), made(5)[:2])


JOB = """
import os, sys, pathlib, time, numpy as np
from foveal.train.cache import cached

calls = []

def make(row):
    calls.append(row)
    with open(sys.argv[1] + "/asked", "a") as file:
        file.write(f"{os.getpid()} {row}\\n")
    if len(sys.argv) > 3 and len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), 9)
    time.sleep(0.02)
    return np.random.default_rng(row).integers(0, 65_536, (3, 4, 2), dtype=np.uint16)

path = pathlib.Path(sys.argv[1]) / "deep" / "pictures.npy"
count = int(sys.argv[2])
got = cached(path, make, count, threads=1, limit_bytes=1e9)
print([int(got(row).sum()) for row in range(count)])
"""


def asked(folder: Path) -> list[tuple[int, int]]:
    """The rows that were made, with the process that did."""
    lines = (folder / "asked").read_text().splitlines()
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines]


def test_two_jobs_that_ask_at_once_make_one_cache_even_after_a_kill(tmp_path):
    run = [sys.executable, "-c", JOB, str(tmp_path), "7"]
    killed = subprocess.run([*run, "5"], capture_output=True)
    assert killed.returncode == -9
    assert not list(tmp_path.glob("deep/*.npy"))
    (tmp_path / "asked").unlink()
    jobs = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(job.communicate()[0]) for job in jobs]
    assert said == [[int(made(row).sum()) for row in range(7)]] * 2
    rows = [row for _, row in asked(tmp_path)]
    assert rows.count(6) == 1, "both jobs made it"


@pytest.mark.parametrize("killed", [[], ["9"]])
def test_two_jobs_share_what_is_to_be_made_and_one_makes_what_the_other_leaves(tmp_path, killed):
    count = 6 * BLOCK
    run = [sys.executable, "-c", JOB, str(tmp_path), str(count)]
    jobs = [subprocess.Popen([*run, *ends], stdout=subprocess.PIPE) for ends in ([], killed)]
    said = [job.communicate()[0] for job in jobs]
    right = [int(made(row).sum()) for row in range(count)]
    assert [json.loads(one) for one in said if one] == [right] * sum(1 for one in said if one)
    assert json.loads(said[0]) == right
    rows = [row for _, row in asked(tmp_path) if row]  # the first shows each job the shape
    assert set(rows) == set(range(1, count))
    if not killed:
        assert len(rows) == count - 1, "a case was made twice"
        assert len({job for job, row in asked(tmp_path) if row}) == 2, "one made all"
    assert {p.name for p in (tmp_path / "deep").iterdir()} == {
        "pictures.json",
        "pictures.lock",
        "pictures.npy",
    }


def test_threads_of_one_process_share_a_cache(tmp_path):
    asked = []

    def make(row: int) -> np.ndarray:
        asked.append(row)
        return made(row)

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda _: cache(tmp_path, make), range(4)))
    assert asked.count(6) == 1
    assert all(np.array_equal(one(5), made(5)) for one in got)


FULL = """
import resource, sys, pathlib, numpy as np
from foveal.errors import StudyError
from foveal.train.cache import cached
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
path = pathlib.Path(sys.argv[1]) / "pictures.npy"
try:
    cached(path, lambda row: np.zeros((50, 50, 1), np.uint8), 9, threads=1, limit_bytes=1e9)
except StudyError as error:
    print(error)
"""


def test_a_file_that_may_not_grow_is_an_error_and_leaves_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert f"cannot write {tmp_path}/pictures.npy" in done.stdout
    assert {p.name for p in tmp_path.iterdir()} == {"pictures.lock"}


def test_a_disk_that_fills_up_on_the_way_is_given_back(tmp_path, monkeypatch):
    def full(path: Path, value: object) -> None:
        raise DiskFullError(f"cannot write {path}")

    monkeypatch.setattr("foveal.train.cache.write_json", full)
    with pytest.raises(DiskFullError):
        cache(tmp_path)
    assert {p.name for p in (tmp_path / "deep").iterdir()} == {"pictures.lock"}


def test_what_can_be_made_by_now_is_made(tmp_path):
    cache(tmp_path, some_fail)
    got = cache(tmp_path, lambda row: some_fail(row) if row == 3 else made(row))
    assert got.failed == {3: "row 3 is no picture"}
    np.testing.assert_array_equal(got(0), made(0))
    got = cache(tmp_path)
    assert not got.failed
    np.testing.assert_array_equal(got.values, np.stack([made(row) for row in range(7)]))
    with pytest.raises(ValueError, match="read-only"):
        got.values[0] = 0


@pytest.mark.parametrize("is_asked_for", [False, True])
def test_caches_that_nobody_asks_for_make_room(tmp_path: Path, *, is_asked_for: bool) -> None:
    size = made(0).nbytes * 7
    limits = {"threads": 1, "limit_bytes": 1.5 * size}
    older, newer = tmp_path / "older.npy", tmp_path / "newer.npy"
    cached(older, made, 7, **limits)
    assert isinstance(cached(newer, made, 7, **limits), Direct)
    os.utime(older.with_suffix(".json"), (0, 0))
    begin(tmp_path)
    if is_asked_for:
        cached(older, made, 7, **limits)
    found = cached(newer, made, 7, **limits)
    assert older.is_file() == is_asked_for
    assert isinstance(found, Direct if is_asked_for else Mapped)
    np.testing.assert_array_equal(found(3), made(3))


def test_what_a_lost_file_costs_is_nothing() -> None:
    assert seconds_to_make(some_fail, [0, 3]) >= 0


def test_a_cache_taken_away_while_it_is_made_is_never_empty(tmp_path):
    path, began = tmp_path / "pictures.npy", []

    def make(row):
        if row == 40 and not began:  # another job gives it back, and a third one begins anew
            began.append(row)
            for suffix in (".part", ".progress"):
                path.with_suffix(suffix).unlink()
            _begin(path, (70, 2), np.dtype(np.uint8))
        return np.full(2, row + 1, np.uint8)

    with pytest.raises(DiskFullError, match="taken away while it was made"):
        cached(path, make, 70, threads=1, limit_bytes=1e9)
    assert not path.exists()
    found = cached(path, make, 70, threads=1, limit_bytes=1e9)
    assert (found.values[:, 0] == np.arange(70) + 1).all()
