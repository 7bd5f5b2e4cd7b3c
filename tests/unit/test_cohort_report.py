"""How cases stand among the others, what reviewers may say, and what pictures show."""

import html
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image

from unetpp_monai.cohort.report import MOST_CASES, About, write_report
from unetpp_monai.cohort.review import COLUMNS, apply_review, read_review
from unetpp_monai.cohort.statistics import LARGEST, robust_z, side_pairs, standings
from unetpp_monai.cohort.table import Record
from unetpp_monai.errors import InputError
from unetpp_monai.io import overview
from unetpp_monai.io.overview import COLOURS, CONVENTION, write_overview
from unetpp_monai.labels import Code, Label
from unetpp_monai.volume import Volume
from unetpp_monai.workflows.calibrate import Quota


def label(index, name, modifier=None):
    return Label(index, name, None, None, () if modifier is None else (Code(modifier, "SCT", ""),), None)


LABELS = (label(1, "left horn"), label(2, "right horn"))
MADE = datetime(2030, 1, 2, tzinfo=UTC)


def record(case, left=2.0, right=2.0, **more):
    report = {
        "ml": {"left horn": left, "right horn": right},
        "voxels": {"left horn": round(left * 1000), "right horn": round(right * 1000)},
        "scores": {},
        "score": more.pop("score", None),
        "seconds": {"network": 1.0},
        "plausibility": more.pop("plausibility", None),
        "review": more.pop("review", None),
        "outputs": {"nifti": {"file": "x", "sha256": f"hash of {case}"}},
        "depth": 4,
        "runtime": "eager",
    }
    return replace(Record(case, case, "done", report, made=MADE), **more)


def cohort(*others):
    spread = np.linspace(-0.2, 0.2, 21)
    return [*(record(f"case_{place}", 2 + x, 2 - x) for place, x in enumerate(spread)), *others]


def test_deviations_are_not_moved_by_what_deviates():
    usual = list(np.random.default_rng(0).normal(5, 2, 400))
    found = robust_z([*usual, 105.0, None])
    assert found[-1] is None and found[-2] == pytest.approx(50, rel=0.1)
    assert np.std(found[:-2]) == pytest.approx(1, abs=0.1)
    assert robust_z([1.0, 2.0, 3.0, 4.0]) == [None] * 4  # too few to say
    assert robust_z([1.0] * 9 + [2.0])[-1] == LARGEST and robust_z([1.0] * 9)[0] == 0


@pytest.mark.parametrize(
    "labels",
    [
        (label(1, "Left-Hippocampus"), label(2, "Right-Hippocampus"), label(3, "brainstem")),
        (label(1, "Hippocampus L", "7771000"), label(2, "Hippocampus L", "24028007")),
    ],
)
def test_labels_with_sides_are_paired(labels):
    (pair,) = side_pairs(labels).values()
    assert pair == (labels[0].name, labels[1].name)


def test_what_is_unlike_the_others_comes_first_with_its_reason():
    small, uneven = record("small", 0.5, 0.5), record("uneven", 2.2, 1.0)
    nothing, failed = record("nothing", 0.0, 0.0), Record("failed", "failed", "failed", reason="no slices")
    odd = record("odd", plausibility=["spacing is 9 mm"])
    found = standings(cohort(small, uneven, nothing, failed, odd), LABELS)
    assert all(not standing.reasons for standing in found[:21])
    by_name = dict(zip(["small", "uneven", "nothing", "failed", "odd"], found[21:], strict=True))
    assert "left horn is 8.4 robust deviations below the cohort's median" in by_name["small"].reasons[0]
    assert any(reason.startswith("asymmetry of horn") for reason in by_name["uneven"].reasons)
    assert by_name["uneven"].asymmetry == {"horn": 0.75}
    assert by_name["nothing"].reasons[0] == "no label was found" and by_name["failed"].reasons == ("no slices",)
    assert by_name["odd"].reasons == ("spacing is 9 mm",)
    worst = sorted(range(26), key=lambda place: -found[place].suspicion)[:5]
    assert set(worst) == set(range(21, 26))


def test_excluded_cases_move_nobody():
    far = [record(f"far_{place}", 9.0, 9.0) for place in range(30)]
    with_them = standings(cohort(*far), LABELS)
    without = standings(cohort(*(replace(one, excluded="by A") for one in far)), LABELS)
    assert with_them[0].deviations["left horn"] != without[0].deviations["left horn"]
    assert without[0].deviations == standings(cohort(), LABELS)[0].deviations and not without[-1].deviations


def test_scores_are_flagged_by_the_bundle_or_by_the_sites_quota():
    cases = [record("low", score=0.1, review=False), record("high", score=0.5, review=True)]
    assert [bool(one.reasons) for one in standings(cases, LABELS)] == [False, True]
    quota = Quota("entropy", 0.1, 0.5, 2)
    assert [bool(one.reasons) for one in standings(cases, LABELS, quota=quota)] == [True, True]
    assert "quota of 50%" in standings(cases, LABELS, quota=quota)[0].reasons[0]


def review(path, *rows):
    path.write_text("\n".join([",".join(COLUMNS), *(",".join(row) for row in rows)]) + "\n")
    return path


def mark(case, word, days=1, sha256=None):
    time = (MADE + timedelta(days=days)).isoformat().replace("+00:00", "Z")
    return (case, word, "blurred", "A. Reader", time, f"hash of {case}" if sha256 is None else sha256)


def test_a_review_excludes_and_repeats_what_was_reviewed(tmp_path):
    cases = [record(name) for name in ("a", "b", "c", "d", "e")]
    rows = (mark("a", "exclude"), mark("b", "redo"), mark("c", "redo", days=-1), mark("d", "exclude", sha256="other"))
    marks = read_review(review(tmp_path / "review.csv", *rows, mark("e", "exclude"), mark("e", "keep", days=2)))
    found = apply_review(marks, cases)
    assert found.excluded == {"a": "A. Reader: blurred"} and found.outdated == ("d",)
    assert [one.case for one in found.again] == ["b"]  # c was made after it was reviewed


def test_names_that_look_like_formulas_are_read_back(tmp_path):
    cases = [record(name) for name in ("-01", "+a", "'b")]
    rows = [(f"'{name}" if name[0] in "-+" else name, *mark(name, "exclude")[1:]) for name in ("-01", "+a", "'b")]
    found = apply_review(read_review(review(tmp_path / "review.csv", *rows)), cases)
    assert set(found.excluded) == {"-01", "+a", "'b"} and not found.outdated


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (mark("a", "burn"), "a mark must be one of keep, exclude, redo, got burn"),
        (("a", "keep", "", "", "yesterday", ""), "times as ISO 8601"),
        (mark("z", "keep"), "a review must be of this cohort, got 1 other cases, such as z"),
    ],
)
def test_a_review_that_says_something_else(tmp_path, row, said):
    with pytest.raises(InputError, match=said):
        apply_review(read_review(review(tmp_path / "review.csv", row)), [record("a")])
    for content in ("case,mark\na,keep\n", b"\xff"):
        (tmp_path / "other.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(InputError, match="a review must"):
            read_review(tmp_path / "other.csv")


def test_a_picture_shows_the_box_and_no_more(tmp_path):
    """What lies outside, such as a face, is white here, and nothing of it is drawn."""
    image, labels = np.full((1, 80, 90, 70), 1000, np.float32), np.zeros((1, 80, 90, 70), np.uint8)
    image[:, 30:60, 30:60, 30:60] = np.random.default_rng(0).normal(100, 10, (1, 30, 30, 30))
    labels[:, 40:50, 40:50, 40:50] = 2
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    path = tmp_path / "a.webp"
    assert write_overview(Volume(image, affine), Volume(labels, affine), path, indices=[2])
    with Image.open(path) as picture:
        shown = np.asarray(picture).astype(int)
    assert shown.shape[0] <= 150 and path.stat().st_size < 40_000
    outline = np.abs(shown - COLOURS[1]).sum(2) < 150
    assert outline.any() and not outline.all()
    inside = image.copy()
    inside[:, 31:59, 31:59, 31:59] = 500
    write_overview(Volume(inside, affine), Volume(labels, affine), tmp_path / "b.webp", indices=[2])
    assert (shown.min(2) > 240).any(), "letters at the edges"
    outside = image.copy()
    outside[:, :30] = outside[:, 60:] = 0
    write_overview(Volume(outside, affine), Volume(labels, affine), tmp_path / "c.webp", indices=[2])
    assert (tmp_path / "c.webp").read_bytes() == path.read_bytes() != (tmp_path / "b.webp").read_bytes()
    empty = Volume(np.zeros_like(labels), affine)
    assert not write_overview(Volume(image, affine), empty, tmp_path / "d.webp", indices=[2])
    assert not (tmp_path / "d.webp").exists()


@pytest.mark.parametrize(("axis", "corner"), [(0, "LR"), (1, "PA"), (2, "IS")])
def test_letters_are_where_the_patients_sides_are(tmp_path, monkeypatch, axis, corner):
    """Lettered panels are compared with the image that they show: the positive half of an axis is white."""
    lettered = []
    monkeypatch.setattr(overview, "_lettered", lambda panel, letters: lettered.append((panel, letters)) or panel)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS
    image, labels = np.zeros((1, 40, 40, 40), np.float32), np.zeros((1, 40, 40, 40), np.uint8)
    np.moveaxis(image[0], axis, 0)[slice(20) if axis < 2 else slice(20, None)] = 1
    labels[:, 15:25, 15:25, 15:25] = 1
    write_overview(Volume(image, affine), Volume(labels, affine), tmp_path / "a.webp", indices=[1])
    assert len(lettered) == 3
    for panel, (left, right, lower, upper) in lettered:
        if {left, right} == set(corner):
            assert (panel[5, 3].max(), panel[5, -3].min()) == (0, 255) and left + right == corner
        elif {lower, upper} == set(corner):
            assert (panel[-3, 5].max(), panel[3, 5].min()) == (0, 255) and lower + upper == corner


def test_a_picture_of_two_dimensions_is_one_panel(tmp_path):
    image, labels = np.zeros((3, 60, 40, 1), np.uint8), np.zeros((1, 60, 40, 1), np.uint8)
    image[:, 10:20, 10:20], labels[:, 10:20, 10:20] = 255, 1
    assert write_overview(Volume(image, np.eye(4)), Volume(labels, np.eye(4)), tmp_path / "a.webp", indices=[1])
    with Image.open(tmp_path / "a.webp") as picture:
        assert picture.size[0] < 310


class _Bundle:
    name, version, weights_sha256, labels = "n<b>", "1", "0" * 64, LABELS

    class input:  # noqa: N801
        spatial_dims = 3


def test_a_report_escapes_what_strangers_wrote_and_stays_small(tmp_path):
    (tmp_path / "pictures").mkdir()
    for place in range(200):
        (tmp_path / "pictures" / f"case_{place}.webp").write_bytes(bytes(90_000))
    evil = record("</script><script>alert(1)</script>", plausibility=["<img src=x onerror=alert(1)>"])
    cases = [*(record(f"case_{place}") for place in range(200)), evil]
    write_report(cases, tmp_path / "pictures", tmp_path / "r.html", about=About(_Bundle, "images"))
    text = (tmp_path / "r.html").read_text()
    assert "<script>alert" not in text and "<img src=x" not in text and "n&lt;b&gt;" in text
    assert CONVENTION in html.unescape(text)
    assert len(text) < 15_000_000 and "http" not in text.replace("http-equiv", "")
    many = [record(f"case_{place}") for place in range(MOST_CASES + 5)]
    write_report(many, tmp_path / "gone", tmp_path / "r.html", about=About(_Bundle, "images"))
    assert f"Of {MOST_CASES + 5} cases the {MOST_CASES} most suspicious" in (tmp_path / "r.html").read_text()
