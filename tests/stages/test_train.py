import pytest

from foveal.stages.train import _Board
from foveal.task import Context


def test_no_end_is_foreseen_before_there_is_something_to_go_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[str] = []
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    board = _Board(
        ["floor fold 0", "floor fold 1"],
        Context(slots=(), progress=lambda _stage, _share, words: heard.append(words)),
    )
    for seconds, number, done in ((60, 0, 0.02), (61, 0, 0.5), (70, 1, 0.5), (300, 1, 0.5)):
        now[0] = float(seconds)
        board.hear(number, {"done": done})
    assert heard[0] == "floor fold 0"
    assert heard[1] == "floor fold 0, about 3 min left"
    assert heard[2] == "floor fold 1, about 1 min left"
    early = _Board(["one"], Context(progress=lambda _a, _b, words: heard.append(words)))
    now[0] += 301
    early.hear(0, {"done": 0.01})
    assert heard[-1] == "one, about 8h17m left"
