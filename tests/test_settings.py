"""`study.yaml` comes back as it was written, and says what is wrong with an edit."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import StudyError, UsageError
from foveal.manifest import Facts
from foveal.settings import Settings, format_settings, parse_settings
from foveal.study import Study
from foveal.table import Source

FACTS = Facts(
    cases=3,
    target={"grades": 5},
    height=3,
    width=4,
    aspect=4 / 3,
    channels=1,
    bits=16,
    mean=(1e-7,),
    std=(0.25,),
    sizes={"3 x 4": 3},
    sites=("010", "no", "12:30", "1e-3", "é: #1"),
)


def settings_of(options: dict, **source) -> Settings:
    where = {"table": "/t.csv", "images": "/i/{x}", "target": ("g",)} | source
    return Settings(
        recipe="grade:small", options=options, source=Source(**where), facts=FACTS, checked="0a"
    )


TRICKY = (
    "no", "yes", "~", "null", "true", "010", "0x1f", "1e-3", "1_000", ".5", "12:30", "2020-01-01",
    "- a", "a: b", "#a", "a #b", " a ", "=", "<<", "*a", "&a", "!a", "%", "@", "\t", "a\nb", "",
)  # fmt: skip
texts = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=9)
numbers = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False))


@settings(max_examples=120, deadline=None, database=None)
@given(
    value=st.one_of(numbers, texts, st.sampled_from(TRICKY)),
    name=st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1),
)
def test_settings_come_back_as_they_were(tmp_path_factory, value, name):
    path = tmp_path_factory.mktemp("s") / "study.yaml"
    wanted = settings_of({"option": value, "list": [value]}, id=name, target=(name, "no"))
    path.write_text(format_settings(wanted), encoding="utf-8")
    got = parse_settings(path)
    assert got == wanted
    assert type(got.options["option"]) is type(value)


def edited(folder: Path, old: str, new: str) -> Settings:
    text = format_settings(settings_of({"epochs": 5}))
    assert old in text
    (folder / "study.yaml").write_text(text.replace(old, new))
    return Study(folder).settings()


def test_values_typed_by_hand_are_read_as_yaml_1_2_says(tmp_path):
    for text, value in (("1e-3", 1e-3), ("no", "no"), ("12:30", "12:30"), ("null", None)):
        assert edited(tmp_path, "epochs: 5", f"epochs: {text}").options == {"epochs": value}
    assert edited(tmp_path, "options:\n  epochs: 5", "options:").options == {}
    assert edited(tmp_path, "target:\n- g", "target: g") == settings_of({"epochs": 5})


def test_keys_that_are_unknown_missing_or_twice_are_named(tmp_path):
    with pytest.raises(UsageError, match=r'unknown key "epochs".*there are: recipe'):
        edited(tmp_path, "options:\n  epochs: 5", "epochs: 5")
    with pytest.raises(UsageError, match=r'unknown key "recip".*did you mean "recipe"'):
        edited(tmp_path, "recipe:", "recip:")
    for key, text in (("table", "table: /t.csv"), ("recipe", "recipe: grade:small")):
        with pytest.raises(StudyError, match=f'key "{key}" is missing'):
            edited(tmp_path, text, "")
    with pytest.raises(StudyError, match=r'line 6: found duplicate key "epochs" [^/]*$'):
        edited(tmp_path, "  epochs: 5", "  epochs: 5\n  epochs: 6")


@pytest.mark.parametrize(
    "text", ["", "- a", "a: [", "\tx: 1", "just words", "a: 2020-02-31", "a: !!int x"]
)
def test_a_file_that_is_no_settings_is_refused_by_name(tmp_path, text):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(StudyError, match=r"study\.yaml"):
        Study(tmp_path).settings()
    with pytest.raises(StudyError, match="no study in"):
        Study(tmp_path / "none").settings()
