"""Tables and bundles in a form that is not read are refused by what they are."""

import pytest

from unetpp_monai.bundle import read_bundle
from unetpp_monai.cohort.cases import Selection, list_cohort
from unetpp_monai.cohort.review import read_review
from unetpp_monai.errors import BundleError, InputError
from unetpp_monai.io.label_table import read_label_table
from unetpp_monai.planning import find_dataset
from unetpp_monai.task import find_task
from unetpp_monai.training.initial_weights import weights_file


def cohort_of(path):
    return list_cohort([path], path.parent / "out", Selection())


@pytest.mark.parametrize("read", [find_dataset, cohort_of, read_review])
@pytest.mark.parametrize(("separator", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_table_without_commas_is_refused_with_that_reason(tmp_path, read, separator, word):
    path = tmp_path / "cases.csv"
    path.write_text(f"image{separator}label\na.nii{separator}b.nii\n")
    with pytest.raises(InputError, match=rf"separated by commas, got {word} in .*cases\.csv; save the table"):
        read(path)


def test_a_label_table_with_commas_is_refused_with_that_reason(tmp_path):
    (tmp_path / "labels.tsv").write_text("index,name\n1,organ\n")
    with pytest.raises(InputError, match="columns must be separated by tabs, got commas"):
        read_label_table(tmp_path / "labels.tsv")


@pytest.mark.parametrize(
    ("read", "error"),
    [(read_bundle, BundleError), (find_task, BundleError), (weights_file, InputError), (find_dataset, InputError)],
)
def test_a_zip_is_refused_with_the_hint_to_unzip_it(tmp_path, monkeypatch, read, error):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "organ.zip").write_bytes(b"PK")
    for path in (tmp_path / "organ.zip", "organ.zip"):
        with pytest.raises(error, match=r"got the zip .*organ\.zip; unzip it first"):
            read(path)
