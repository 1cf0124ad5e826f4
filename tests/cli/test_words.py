"""Words to values and back, each by hand or by the shell's own rules."""

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.cli.words import duration, leaderboard, next_call, options_of, seconds_of
from foveal.errors import UsageError


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_hours_minutes_and_seconds_add_up(hours: int, minutes: int, seconds: int) -> None:
    parts = [f"{n}{u}" for n, u in zip((hours, minutes, seconds), "hms", strict=True) if n]
    if parts:
        assert seconds_of("".join(parts), plain=7.0) == 3600 * hours + 60 * minutes + seconds


@pytest.mark.parametrize(
    ("text", "plain", "seconds"),
    [("1.5h", 1, 5400), ("0.5m0.5s", 1, 30.5), ("90", 1, 90), ("0.25", 3600, 900), ("1e2", 1, 100)],
)
def test_parts_of_an_hour_and_bare_numbers(text: str, plain: float, seconds: float) -> None:
    assert seconds_of(text, plain=plain) == seconds


@pytest.mark.parametrize("text", ["", "h", "soon", "5m3h", "1h 5m", "5M", "1:30", "3hh", "1.h"])
def test_what_is_no_duration_is_said_so(text: str) -> None:
    with pytest.raises(UsageError, match="is no duration; write it like 8h30m, 90m or 45s"):
        seconds_of(text)


@pytest.mark.parametrize("text", ["0", "0h0m", "-5", "nan", "inf", "1e999", "-inf"])
def test_a_duration_is_finite_and_above_zero(text: str) -> None:
    with pytest.raises(UsageError, match="is no duration above zero"):
        seconds_of(text, plain=1.0)


def test_a_bare_number_where_it_could_be_hours_or_seconds_is_refused() -> None:
    with pytest.raises(UsageError, match='"9" says no unit; write 9h, 9m or 9s'):
        seconds_of("9")


VALUES = {
    "3": 3, "1e-3": 0.001, "-0.5": -0.5, "true": True, "no": "no", "'3'": "3", "": "",
    "null": "null", "96x160": "96x160", "b=c": "b=c", "floor,patches": "floor,patches",
    "[1, 2]": "[1, 2]", "2020-01-01": "2020-01-01", "007": "007",
    "-1": -1, "0": 0, "./my weights.pth": "./my weights.pth",
    "DAPI #1,GFP #2": "DAPI #1,GFP #2", "1_000": "1_000", "0x1F": "0x1F", "&a b": "&a b",
    "0o7": "0o7", ".5": 0.5, '"1.50"': "1.50", "false": False, "- a": "- a", "0.10": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("text", VALUES)
def test_an_option_is_a_number_a_truth_value_or_the_text_itself(text: str) -> None:
    got = options_of([f"a={text}", "b=1"])
    assert got == {"a": VALUES[text], "b": 1}
    assert type(got["a"]) is type(VALUES[text])


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["size"], '"size" is no option; write it like size=96'),
        (["=96"], '"=96" is no option'),
        (["size=96", "lr=1", "size=96"], "the option size= is given twice"),
    ],
)
def test_a_wrong_option_is_named(tokens: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        options_of(tokens)


@pytest.mark.parametrize("text", ["@me", "[1", "{a", "*", "a: b: c", "'it", "%", "2020-13-01"])
def test_a_text_that_is_no_yaml_is_the_text_itself(text: str) -> None:
    assert options_of([f"weights={text}"]) == {"weights": text}


@given(st.text(st.characters(exclude_characters="\0"), min_size=1))
def test_what_to_type_next_is_one_word_for_the_folder(name: str) -> None:
    folder = Path(name)
    assert shlex.split(next_call("run", folder)) == ["foveal", "run", str(folder)]
    wanted = ["foveal", "predict", str(folder), "--out", "a b"]
    assert shlex.split(next_call("predict", folder, "--out 'a b'")) == wanted


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "1 s"), (1.4, "1 s"), (89.4, "89 s"), (90, "2 min"), (149, "2 min"), (5340, "89 min"),
     (5400, "1h30m"), (7170, "2h00m"), (36_060, "10h01m")],
)  # fmt: skip
def test_durations_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def row(name: str, score: float, sites: dict[str, float], *, below: bool = False) -> dict:
    span = [score - 0.1, score + 0.1]
    return {"name": name, "score": score, "interval": span, "sites": sites, "below_floor": below}


BOARD = {
    "rows": [
        row("floor", 0.5, {"A": 0.25, "far away": 0.75}),
        row("net", 0.4, {"A": 0.125, "far away": -0.5}, below=True),
        row("mean of all", 0.875, {"A": 1.0, "far away": 0.0}),
    ],
    "chosen": "mean of all",
    "nested": 0.8125,
    "nested_interval": [0.75, 0.9],
}


def test_the_leaderboard_line_by_line() -> None:
    header, *rows, last = leaderboard(BOARD).splitlines()
    assert header.split() == ["row", "score", "95", "%", "interval", "A", "far", "away"]
    assert rows == [
        "  floor        0.500  0.400 to 0.600  0.250     0.750",
        "  net          0.400  0.300 to 0.500  0.125    -0.500  below the floor",
        "* mean of all  0.875  0.775 to 0.975  1.000     0.000",
    ]
    assert last == "* chosen; with the choice itself cross-fitted 0.812 (0.750 to 0.900)"
    assert "A" not in leaderboard({**BOARD, "rows": [row("floor", 0.5, {})]}).splitlines()[0]


def test_the_names_of_sites_end_where_their_numbers_end() -> None:
    header, first, *_ = leaderboard(BOARD).splitlines()
    assert header.index("A") + 1 == first.index("0.250") + 5
    assert len(header) == len(first)


def test_an_interval_that_nobody_can_tell_is_said_in_words() -> None:
    board = {**BOARD, "rows": [{**row("floor", 0.5, {}), "interval": [None, None]}]}
    assert leaderboard(board).splitlines()[1] == "  floor  0.500  too few groups"


def test_a_score_that_there_is_not_is_a_dash() -> None:
    one = {**row("floor", 0.5, {"A": 0.25, "far away": None}), "score": None}
    nested = {"nested": None, "nested_interval": [None, None]}
    _, line, last = leaderboard({**BOARD, **nested, "rows": [one]}).splitlines()
    assert line == "  floor      -  0.400 to 0.600  0.250         -"
    assert last == "* chosen; with the choice itself cross-fitted - (too few groups)"
    untold = {"nested": None, "nested_interval": None}
    assert "takes three folds" in leaderboard({**BOARD, **untold})
