"""Tables of labels: BIDS's columns, everything comes back, foreign tables are read or refused."""

import csv

import hypothesis.strategies as st
import pytest
from hypothesis import given

from unetpp_monai.errors import InputError, OutputError
from unetpp_monai.io.label_table import read_label_table, write_label_table
from unetpp_monai.labels import Code, Label, label_colour

words = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters='\t\n"'), min_size=1)
stated = st.builds(Code, *[words.filter(lambda word: word != "n/a")] * 3)
codes = st.none() | stated
colours = st.tuples(*[st.integers(0, 255)] * 3)
labels = st.builds(Label, st.integers(1, 999), words, codes, codes, st.lists(stated, max_size=2).map(tuple), colours)


@given(st.lists(labels, unique_by=lambda label: label.index, max_size=4))
def test_everything_comes_back(tmp_path_factory, structures):
    path = tmp_path_factory.mktemp("table") / "case_seg.tsv"
    write_label_table(structures, path)
    assert read_label_table(path) == tuple(structures)


def test_the_table_is_what_bids_wants(tmp_path):
    head = Label(1, "Kopf des Hippocampus, größer", None, Code("1", "SCT", "Hippocampus"), (), (0, 171, 255))
    plain = Label(7, "tail", None, None, (), None)
    write_label_table([head, plain], tmp_path / "case_seg.tsv")
    data = (tmp_path / "case_seg.tsv").read_bytes()
    assert b"\r" not in data
    rows = list(csv.reader(data.decode("utf-8").splitlines(), delimiter="\t"))
    assert rows[0][:3] == ["index", "name", "color"]
    assert rows[1][:3] == ["1", "Kopf des Hippocampus, größer", "#00abff"]
    assert rows[2] == ["7", "tail", "#{:02x}{:02x}{:02x}".format(*label_colour(plain)), *["n/a"] * 9]


def test_a_table_of_others(tmp_path):
    (tmp_path / "dseg.tsv").write_text(
        "index\tname\tabbreviation\tcolor\n0\tBackground\tBG\tn/a\n100\tGray Matter\tGM\t#ff53bb\n101\tX\n", "utf-8-sig"
    )
    grey, other = read_label_table(tmp_path / "dseg.tsv")
    assert grey == Label(100, "Gray Matter", None, None, (), (255, 83, 187))
    assert other == Label(101, "X", None, None, (), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("number\tname\n1\ta\n", "must have the columns index and name, got"),
        ("index\tname\none\ta\n", "integers >= 0 as index"),
        ("index\tname\n-1\ta\n", "integers >= 0 as index"),
        ("index\tname\tcolor\n1\ta\tred\n", "colours as #rrggbb, got '1' and 'red'"),
        ("index\tname\tcolor\n1\ta\t#fff0\n", "colours as #rrggbb"),
        ("index\tname\n1\ta\n1\tb\n", "every index must be in one row"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, text, message):
    (tmp_path / "table.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_label_table(tmp_path / "table.tsv")


def test_what_is_no_table(tmp_path):
    with pytest.raises(InputError, match="not a readable table"):
        read_label_table(tmp_path / "missing.tsv")
    (tmp_path / "binary.tsv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a readable table"):
        read_label_table(tmp_path / "binary.tsv")
    with pytest.raises(OutputError, match="must be writable"):
        write_label_table([], tmp_path / "missing" / "table.tsv")
