"""What the study must give back to the letter, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import ManifestError
from foveal.manifest import Facts, Manifest
from tables import loaded, refusal


def test_missing_ids_are_named_by_row(tmp_path):
    assert "row 2" in refusal(tmp_path, "id,image\na,x\n,y\n").split("|")[1]


def test_duplicate_ids_are_named_with_both_rows(tmp_path):
    text = refusal(tmp_path, "id,image\na,x\nb,y\na,z\nb,w\n")
    assert 'row 3 repeats id "a" of row 1' in text
    assert 'row 4 repeats id "b" of row 2' in text


@pytest.mark.parametrize("weight", ["nan", "-1", "heavy", "", "inf", "1e400", "0x10"])
def test_weights_that_do_not_count_are_refused_with_their_row(tmp_path, weight):
    text = refusal(tmp_path, f"id,image,w\na,x,1\nb,y,{weight}\n", weight="w")
    assert f'row 2 (id "b"): weight "{weight}"' in text


def test_weights_must_not_all_be_zero(tmp_path):
    assert "all weights are 0" in refusal(tmp_path, "id,image,w\na,x,0\nb,y,0.0\n", weight="w")


def test_accepted_weights_are_numbers(tmp_path):
    text = "id,image,w\na,x, 1 \nb,y,1_000\nc,z,-0\n"
    assert loaded(tmp_path, text, weight="w").weight * 500.5 == pytest.approx([1, 1000, 0])


def test_columns_called_like_roles_have_none(tmp_path):
    text = "name,id,fold,group,site,weight,source,image\na,1,2,3,4,-5,6,x\n"
    manifest = loaded(tmp_path, text)
    assert (manifest.id_column, dict(manifest.roles)) == ("name", {})
    assert manifest.weight.tolist() == [1]
    assert loaded(tmp_path, text, fold="group").roles["fold"].tolist() == ["3"]


def test_take_keeps_every_column_of_its_rows(tmp_path):
    text = "id,image,g,s,w\na,x,1,p,1\nb,y,2,q,2\nc,z,3,,3\n"
    manifest = loaded(tmp_path, text, target=("g",), site="s", weight="w").take([2, 0])
    assert manifest.ids == ("c", "a")
    assert manifest.target.tolist() == [["3"], ["1"]]
    assert manifest.weight.tolist() == [1.5, 0.5]
    assert [c.site for c in manifest.cases()] == [None, "p"]


# A lone carriage return and a NUL are left out here.
cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=6)


@settings(max_examples=60, deadline=None, database=None)
@given(
    ids=st.lists(cells.filter(bool), min_size=1, max_size=4, unique=True),
    cell=cells,
    name=cells.filter(bool),
)
def test_to_csv_and_back_is_exact(ids, cell, name):
    n = len(ids)
    manifest = Manifest(
        ids=tuple(ids),
        paths=tuple((f"/p/{i}", f"/q/{i}")[: 1 + k % 2] for k, i in enumerate(ids)),
        id_column=name,
        target=np.array([[cell, "1"]] * n),
        target_columns=(name, name + "2"),
        roles={"group": np.array([cell] * n)},
        measured={"sha256": np.array([name] * n)},
    )
    back = Manifest.from_csv(manifest.to_csv())
    assert (back.ids, back.paths, back.id_column) == (manifest.ids, manifest.paths, name)
    assert back.target_columns == manifest.target_columns
    assert back.target.tolist() == manifest.target.tolist()
    assert back.roles["group"].tolist() == [cell] * n
    assert back.measured["sha256"].tolist() == [name] * n


def test_facts_that_are_unknown_or_missing_are_refused():
    with pytest.raises(ManifestError, match='did you mean "mean"'):
        Facts.from_json({"means": (0.5,)})
    with pytest.raises(ManifestError, match="incomplete"):
        Facts.from_json({"cases": 3})


def test_white_space_around_a_role_is_no_other_group(tmp_path):
    text = 'id,image,patient\na,x,p0\nb,y,"p0 "\nc,z, p0\n'
    assert loaded(tmp_path, text, group="patient").roles["group"].tolist() == ["p0"] * 3


def test_only_files_are_named_from_where_they_lie():
    manifest = Manifest(
        ids=("a", "b"),
        id_column="id",
        paths=(("/data/x/a.png",), ("/data/y/b.png",)),
        target=np.array([["/m/0k4j /m/09j2d"], ["/data/z"]]),
        target_columns=("labels",),
    )
    words, files = (manifest.unmoved(target_is_file=is_file) for is_file in (False, True))
    assert words.target.tolist() == manifest.target.tolist()
    assert words.paths == (("x/a.png",), ("y/b.png",))
    assert files.target.tolist() == [["m/0k4j /m/09j2d"], ["data/z"]]
