"""Tables as people really hand them in, and where they lead."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from foveal.errors import ManifestError
from foveal.manifest import Manifest, load
from foveal.table import (
    NOWHERE,
    Source,
    answer_with_prior,
    is_path_column,
    read_table,
    tail_of,
)
from tables import IMAGES, loaded, refusal, table


def test_quotes_commas_and_newlines_in_cells_are_part_of_the_cell(tmp_path):
    text = 'id,image\n"a,b","x ""y"".png"\n"two\nlines",z.png\n'
    assert loaded(tmp_path, text).ids == ("a,b", "two\nlines")


@pytest.mark.parametrize("text", ["id,image\na,x.png\n", '"id",image\r\na,x.png\r\n'])
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path, text):
    manifest = loaded(tmp_path, b"\xef\xbb\xbf" + text.encode())
    assert (manifest.id_column, manifest.ids) == ("id", ("a",))


def test_texts_that_look_like_numbers_or_nothing_stay_texts(tmp_path):
    ids = ("007", "1e3", "NA", "null", "naïve", "視網膜", "👁")
    assert loaded(tmp_path, "id,image\n" + "".join(f"{i},x\n" for i in ids)).ids == ids


def test_parquet_reads_like_the_same_csv(tmp_path):
    frame = pl.DataFrame({"id": [7, 8], "image": ["a", "b"], "grade": [None, 2]})
    frame.write_parquet(tmp_path / "t.parquet")
    manifest = load(Source(table=str(tmp_path / "t.parquet"), images=IMAGES, target=("grade",)))
    same = loaded(tmp_path, "id,image,grade\n7,a,\n8,b,2\n", target=("grade",))
    assert manifest.to_csv() == same.to_csv()
    assert same.target.tolist() == [[""], ["2"]]


@pytest.mark.parametrize("text", ["", "id,image\n", b"\xef\xbb\xbfid,image\n"])
def test_a_table_without_rows_is_refused(tmp_path, text):
    assert "no rows" in refusal(tmp_path, text)


def test_files_that_are_no_table_are_refused_by_name(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and then nothing of the kind")
    (tmp_path / "t.csv").write_bytes("id,image\né,x\n".encode("latin-1"))
    for name in ("t.parquet", "t.csv", "none.csv", ""):
        with pytest.raises(ManifestError, match=str(tmp_path / name)):
            read_table(tmp_path / name)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(("name", "other"), [("t[1]", "t1"), ("t*", "t2"), ("t?", "t3")])
def test_a_name_that_could_be_a_pattern_is_a_name(tmp_path, name, other, ending):
    for stem, word in ((name, "right"), (other, "wrong")):
        frame = pl.DataFrame({"id": [word]})
        getattr(frame, f"write_{ending}")(tmp_path / f"{stem}.{ending}")
    assert read_table(tmp_path / f"{name}.{ending}") == {"id": ["right"]}


def test_a_column_that_occurs_twice_is_refused(tmp_path):
    text = refusal(tmp_path, "id,image,image\na,x,y\n")
    assert '"image" occurs twice' in text
    assert "cure: rename one" in text


def test_columns_without_a_name_are_left_out_but_for_an_index(tmp_path):
    place = Path(table(tmp_path, "id,Grade ,, ,\na,x,,,\nb,y,1,,\n"))
    assert read_table(place) == {"id": ["a", "b"], "Grade ": ["x", "y"]}
    place = Path(table(tmp_path, ",image,\n0,x,\n1,y,\n"))
    assert read_table(place) == {"": ["0", "1"], "image": ["x", "y"]}


@pytest.mark.parametrize("mark", [";", "\t"])
def test_another_mark_between_the_fields_of_the_header_is_that_of_all(tmp_path, mark):
    place = Path(table(tmp_path, f'id{mark}note\na{mark}"1,5{mark} x"\n'))
    assert read_table(place) == {"id": ["a"], "note": [f"1,5{mark} x"]}
    place = Path(table(tmp_path, f"id,note\na,x{mark}y\n"))
    assert read_table(place) == {"id": ["a"], "note": [f"x{mark}y"]}


def test_of_two_marks_in_the_header_that_of_the_rows_counts(tmp_path):
    place = Path(table(tmp_path, "id\tnote, more; all\na\tx\nb\ty, z\n"))
    assert read_table(place) == {"id": ["a", "b"], "note, more; all": ["x", "y, z"]}
    place = Path(table(tmp_path, 'id,"a;b",c\na,x,"1;2"\n'))
    assert read_table(place) == {"id": ["a"], "a;b": ["x"], "c": ["1;2"]}


def test_empty_lines_above_the_header_are_left_out(tmp_path):
    assert read_table(Path(table(tmp_path, "\n\r\nid,image\na,x\n")))["image"] == ["x"]


def test_lines_with_a_lone_quotation_mark_are_named(tmp_path):
    told = refusal(tmp_path, 'id,image,size\na,x,5\nb,y,5"\nc,z,6\n')
    assert "1 lines of" in told
    assert "an odd number of quotation marks; cure: " in told
    assert told.endswith("| line 3")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le"])
def test_a_table_in_another_encoding_is_told_which_it_should_be(tmp_path, encoding):
    assert "cure: save it as UTF-8" in refusal(tmp_path, "id,image\né,x\n".encode(encoding))


@pytest.mark.parametrize("mark", [",", ";"])
def test_rows_with_more_fields_than_the_header_are_named(tmp_path, mark):
    text = "id,image\na,x\n\nb,x,y\nc,x\nd,x,\n".replace(",", mark)
    told = refusal(tmp_path, text)
    assert "2 rows of" in told
    assert "more fields than the header, which has 2; cure: quotes" in told
    assert told.endswith("| row 2 | row 4")


@pytest.mark.parametrize(
    ("images", "roles", "flag"),
    [
        ("img/{imag}", {}, "--images"),
        (IMAGES, {"target": ("imag",)}, "--target"),
        (IMAGES, {"id": "imag"}, "--id"),
        (IMAGES, {"group": "imag"}, "--group"),
    ],
)
def test_a_missing_column_is_answered_with_the_nearest(tmp_path, images, roles, flag):
    text = refusal(tmp_path, "id,image\na,x\n", images, **roles)
    assert text.startswith(flag)
    assert 'did you mean "image"?' in text


@pytest.mark.parametrize(
    "value", ["../x", "a/../../x", "..", "/etc/x", "a\\..\\x", "\\x", "x\0y", ""]
)
def test_a_value_that_leaves_the_root_is_refused_with_its_row(tmp_path, value):
    text = refusal(tmp_path, f'id,image\nfirst,ok.png\nsecond,"{value}"\n')
    assert 'row 2 (id "second")' in text
    assert "first" not in text


def test_a_path_column_is_absolute_or_beside_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    manifest = loaded(tmp_path, "id,path\na,/data/x.png\nb,sub/y.png\n", "{path}")
    assert manifest.paths == (("/data/x.png",), (f"{tmp_path}/sub/y.png",))
    assert "NUL" in refusal(tmp_path, "id,path\na,x\0y\n", "{path}")


@pytest.mark.parametrize("images", ["img/x.png", "img/{{image}}", "img/{image", "img/image}"])
def test_a_pattern_that_names_no_column_is_refused(tmp_path, images):
    assert "--images" in refusal(tmp_path, "id,image\na,x\n", images)


def test_a_source_means_the_same_from_every_working_directory(tmp_path, monkeypatch):
    here, there = tmp_path / "a {brace} dir", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    table(here, "id,image\na,x.png\n")
    monkeypatch.chdir(here)
    source = Source(table="table.csv", images=IMAGES)
    absolute = source.absolute()
    assert load(source).paths == ((str(here / "img/x.png"),),)
    monkeypatch.chdir(there)
    assert load(absolute).paths == ((str(here / "img/x.png"),),)
    assert absolute.absolute() == absolute


def test_a_pattern_may_leave_a_working_directory_with_a_brace_in_its_name(tmp_path, monkeypatch):
    here = tmp_path / "a {brace} dir"
    here.mkdir()
    monkeypatch.chdir(here)
    source = Source(table=table(here, "id,image\na,x.png\nb,../x\n"), images="../img/{image}")
    with pytest.raises(ManifestError) as error:
        load(source.absolute())
    assert error.value.culprits == ('row 2 (id "b"): "../x" leaves the root',)


@pytest.mark.parametrize(
    ("pattern", "tail"),
    [
        ("/a/img/{image}", "{image}"),
        ("/a/img/x_{image}/{channel}.png", "x_{image}/{channel}.png"),
        ("/a {{b}}/{{c}}_{image}.png", "{{c}}_{image}.png"),
        ("/a/{{{image}}}.png", "{{{image}}}.png"),
        ("{image}/{channel}", "{image}/{channel}"),
        ("{image}", "{image}"),
    ],
)
def test_the_tail_of_a_pattern_is_what_follows_its_folder(pattern, tail):
    assert tail_of(pattern) == tail
    assert is_path_column(pattern) is (pattern == "{image}")


def test_columns_that_are_paths_lead_to_files_from_the_tables_folder(tmp_path: Path) -> None:
    table = tmp_path / "volumes.csv"
    table.write_text("id,slices,region,mask\na,raw/a,reg.png,m/a.png\nb,/abs/b,,m/b.png\n")
    source = Source(
        table=str(table),
        files=("slices", "region", "mask"),
        optional=("region",),
        target=("mask",),
    )
    made = load(source)
    here = str(tmp_path)
    assert made.paths == ((f"{here}/raw/a", f"{here}/reg.png"), ("/abs/b",))
    assert made.target[:, 0].tolist() == [f"{here}/m/a.png", f"{here}/m/b.png"]
    with pytest.raises(ManifestError, match="no path") as error:
        load(replace(source, optional=()))
    assert "row 2" in error.value.culprits[0]
    with pytest.raises(ManifestError, match="--images"):
        load(replace(source, files=()))


# --- a file a channel -----------------------------------------------------------------------------

STAINED = "img/{image}_{channel}.png"


def test_a_channel_in_the_pattern_is_a_file_each_in_their_order(tmp_path: Path) -> None:
    for channels in (("red", "green", "blue"), ("blue", "red"), ("red",)):
        made = loaded(tmp_path, "id,image\na,x\nb,y\n", STAINED, channels=channels)
        assert made.paths == tuple(
            tuple(str(Path.cwd() / f"img/{image}_{channel}.png") for channel in channels)
            for image in "xy"
        )
        assert Manifest.from_csv(made.to_csv()).paths == made.paths


def test_a_channel_may_be_a_folder_of_any_working_directory(tmp_path: Path) -> None:
    source = Source(
        table=table(tmp_path, "id\na\n"), images="{channel}/{id}.png", channels=("red", "blue")
    )
    here = Path.cwd()
    assert source.absolute().channels == ("red", "blue")
    for one in (source, source.absolute()):
        assert load(one).paths == ((str(here / "red/a.png"), str(here / "blue/a.png")),)


def test_a_pattern_without_a_channel_is_one_file_whatever_the_channels(tmp_path: Path) -> None:
    made = loaded(tmp_path, "id,image\na,x.tif\n", channels=("red", "green"))
    assert made.paths == ((str(Path.cwd() / "img/x.tif"),),)


def test_a_channel_that_stands_for_nothing_names_the_cure(tmp_path: Path) -> None:
    text = refusal(tmp_path, "id,image\na,x\n", STAINED)
    assert "nothing says what {channel} stands for" in text
    assert "cure: channels=red,green,blue" in text


def test_a_channel_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    text = refusal(tmp_path, "id,image\na,x\n", STAINED, channels=("red", "blue", "red"))
    assert "channels=red,blue,red names a file twice; cure: every channel once" in text


def test_a_column_called_channel_is_a_column_where_no_channels_are_named(tmp_path: Path) -> None:
    rows = "id,image,channel\na,x,red\nb,y,blue\n"
    assert [Path(*p).name for p in loaded(tmp_path, rows, STAINED).paths] == [
        "x_red.png",
        "y_blue.png",
    ]
    both = loaded(tmp_path, rows, STAINED, channels=("c", "d"))
    assert [Path(p).name for p in both.paths[1]] == ["y_c.png", "y_d.png"]


@pytest.mark.parametrize("value", ["../x", "a/../../x", "/etc/x", "x\0y"])
def test_no_channel_leaves_the_root(tmp_path: Path, value: str) -> None:
    text = refusal(tmp_path, f'id,image\na,ok\nb,"{value}"\n', STAINED, channels=("r", "g"))
    assert 'row 2 (id "b")' in text
    assert 'row 1 (id "a")' not in text
    text = refusal(tmp_path, "id,image\na,ok\n", STAINED, channels=("r", value))
    assert 'row 1 (id "a")' in text


def test_what_is_no_text_in_a_parquet_file_is_left_out(tmp_path):
    frame = pl.DataFrame(
        {
            "id": ["a", "b"],
            "image": ["x.png", "y.png"],
            "box": [[1, 2], [3]],
            "jpeg": [b"\xff", b""],
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    assert set(read_table(tmp_path / "t.parquet")) == {"id", "image"}
    assert loaded_from(tmp_path / "t.parquet").ids == ("a", "b")


def loaded_from(path: Path) -> Manifest:
    return load(Source(table=str(path), images=IMAGES))


@pytest.mark.parametrize("cell", ["", "../x.png", "/x.png", "a/../../x.png"])
def test_a_row_without_a_usable_path_may_be_answered_with_the_prior(tmp_path, cell):
    text = f"id,image\na,x.png\nb,{cell}\n"
    assert "no file below the images' root" in refusal(tmp_path, text)
    source = Source(table=table(tmp_path, text), images=f"{tmp_path}/img/{{image}}")
    manifest = load(source, answer_with_prior)
    assert manifest.ids == ("a", "b")
    assert manifest.paths[0] == (f"{tmp_path}/img/x.png",)
    assert Path(manifest.paths[1][0]).name == NOWHERE
    source = replace(source, images="", files=("image",))
    if not cell:
        assert Path(load(source, answer_with_prior).paths[1][0]).name == NOWHERE


def test_a_column_of_paths_that_may_be_missing_is_used_where_it_is_there(tmp_path):
    source = Source(table="", files=("stack", "region"), optional=("region",), id="id")
    for text, paths in (
        ("id,stack\na,x\n", ("x",)),
        ("id,stack,region\na,x,r.png\n", ("x", "r.png")),
        ("id,stack,region\na,x,\n", ("x",)),
    ):
        manifest = load(replace(source, table=table(tmp_path, text)))
        assert manifest.paths == (tuple(str(tmp_path / p) for p in paths),)


def test_flags_of_a_parquet_file_are_0_and_1(tmp_path):
    pl.DataFrame({"id": ["a", "b"], "sick": [True, None]}).write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")["sick"] == ["1", ""]


def test_lines_may_end_as_on_old_macintoshes(tmp_path):
    assert loaded(tmp_path, "id,image\ra,x.png\rb,y.png\r").ids == ("a", "b")


def test_a_comma_inside_a_quoted_name_is_no_mark(tmp_path):
    manifest = loaded(tmp_path, 'image;"grade, left"\nx.png;1\n', target=("grade, left",))
    assert manifest.target.tolist() == [["1"]]


def test_a_number_that_is_none_is_an_empty_cell_of_a_parquet_file(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": ["a", "b", "c"], "dose": [1.5, float("nan"), None]})
    frame.write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")["dose"] == ["1.5", "", ""]


def test_whole_numbers_that_a_gap_made_fractions_are_whole_again(tmp_path):
    import polars as pl

    path = tmp_path / "t.parquet"
    columns = {
        "id": [1.0, 2.0, 30000000000.0],
        "site": [3.0, None, 4.0],
        "part": [0.5, 1.0, None],
        "far": [1e300, 2.0, 3.0],
        "none": [None, float("nan"), None],
    }
    pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Float64)).write_parquet(path)
    found = {name: list(cells) for name, cells in read_table(path).items()}
    assert found["id"] == ["1", "2", "30000000000"]
    assert found["site"] == ["3", "", "4"]
    assert found["part"] == ["0.5", "1.0", ""]
    assert found["far"][1] == "2.0"
    assert found["none"] == ["", "", ""]
