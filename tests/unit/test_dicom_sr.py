"""Measurement reports: what other programs read in them, and what is never written."""

import numpy as np
import pydicom
import pytest
from helpers.dicom_checks import check_report, errors_of, volumes_of
from helpers.dicom_phantoms import axial_affine, label_phantom, make_enhanced, make_series, oblique_affine

from unetpp_monai.dicom.seg import write_dicom_seg
from unetpp_monai.dicom.seg_reader import parse_seg
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.dicom.sr import write_dicom_sr
from unetpp_monai.errors import InputError, OutputError
from unetpp_monai.labels import Code, Label
from unetpp_monai.provenance import Algorithm
from unetpp_monai.volume import Volume


def sct(value, meaning):
    return Code(value, "SCT", meaning)


ANATOMY, HIPPOCAMPUS = sct("91723000", "Anatomical Structure"), sct("5366008", "Hippocampus")
ABNORMAL, NEOPLASM = sct("49755003", "Morphologically Altered Structure"), sct("108369006", "Neoplasm")
ANTERIOR = sct("255549009", "Anterior")
STRUCTURES = (
    Label(1, "anterior hippocampus", ANATOMY, HIPPOCAMPUS, (sct("255549009", "Anterior"),), (216, 101, 79)),
    Label(2, "left hippocampus", ANATOMY, HIPPOCAMPUS, (sct("7771000", "Left"),), None),
    Label(5, "tumour", ABNORMAL, NEOPLASM, (), None),
)
ALGORITHM = Algorithm("UNet++ phantom", "0.3.0", {"depth": "3", "weights_sha256": "ab" * 32})
SHAPE = (24, 20, 9)


def phantom(affine=None, shape=SHAPE, structures=STRUCTURES):
    """Label map of the structures' values."""
    volume = label_phantom(shape, axial_affine() if affine is None else affine, count=len(structures))
    table = np.array([0, *(structure.index for structure in structures)], np.uint8)
    return Volume(table[volume.array], volume.affine)


def millilitres(volume, structures=STRUCTURES):
    return {one.name: float(np.count_nonzero(volume.array == one.index) * volume.voxel_ml) for one in structures}


def write(folder, volume, sources, *, structures=STRUCTURES, encoding="binary", ml=None, algorithm=ALGORITHM):
    """Write a SEG and the report of it; return what the report says."""
    ml = millilitres(volume, structures) if ml is None else ml
    common = {"structures": structures, "sources": sources, "algorithm": algorithm}
    _, seg = write_dicom_seg(volume, folder / "seg.dcm", encoding=encoding, **common)
    return write_dicom_sr(folder / "sr.dcm", seg=seg, ml=ml, **common)


def items(item, meaning):
    """Content items of this concept below `item`."""
    for child in item.get("ContentSequence", []):
        if child.get("ConceptNameCodeSequence") and child.ConceptNameCodeSequence[0].CodeMeaning == meaning:
            yield child
        yield from items(child, meaning)


def codes(item, meaning):
    return [child.ConceptCodeSequence[0].CodeValue for child in items(item, meaning)]


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
@pytest.mark.parametrize("name", ["Study1_13_HCropVolume", "Study3_11_HCropVolume", "Study3_26401-T1prereg-52906"])
def test_other_programs_read_the_volumes_of_real_series(shared_data, tmp_path, name, encoding):
    series = read_dicom_series(shared_data / "dicom" / name)
    array = np.zeros(series.volume.array.shape, np.uint8)
    array[:, 3:15, 5:20, 2:-3], array[:, 15:25, 5:20, 2:-3], array[:, 5:9, 25:30, 4:7] = 1, 2, 5
    volume = Volume(array, series.volume.affine)
    written = write(tmp_path, volume, series.sources, encoding=encoding)
    assert written == pytest.approx(millilitres(volume), rel=1e-5)
    assert volumes_of(check_report(tmp_path / "sr.dcm")) == written


def test_a_group_names_its_structure_segment_and_source(tmp_path):
    sources = make_series(tmp_path / "series", oblique_affine(), SHAPE)
    write(tmp_path, phantom(oblique_affine()), sources)
    seg = pydicom.dcmread(tmp_path / "seg.dcm", stop_before_pixels=True)
    groups = check_report(tmp_path / "sr.dcm")
    assert [group["ReferencedSegment"] for group in groups] == [1, 2, 3]
    assert {group["segmentationSOPInstanceUID"] for group in groups} == {seg.SOPInstanceUID}
    assert {group["SourceSeriesForImageSegmentation"] for group in groups} == {sources[0].SeriesInstanceUID}
    assert [group["TrackingUniqueIdentifier"] for group in groups] == [one.TrackingUID for one in seg.SegmentSequence]
    assert [group["Finding"]["CodeValue"] for group in groups] == [one.type.value for one in STRUCTURES]
    assert {group["measurementMethod"]["CodeValue"] for group in groups} == {"126030"}
    algorithm = groups[0]["measurementAlgorithmIdentification"]
    assert (algorithm["AlgorithmName"], algorithm["AlgorithmVersion"]) == ("UNet++ phantom", "0.3.0")
    assert algorithm["AlgorithmParameters"] == ["depth=3; weights_sha256=" + "ab" * 32]


def test_the_observer_is_a_device_that_stays_the_same(tmp_path):
    sources = make_series(tmp_path / "series", axial_affine(), SHAPE, modality="CT")
    uids = []
    for version in ("1", "1", "2"):
        write(tmp_path, phantom(), sources, algorithm=Algorithm("model", version))
        report = pydicom.dcmread(tmp_path / "sr.dcm")
        assert codes(report, "Observer Type") == ["121007"]
        assert codes(report, "Procedure reported") == ["25045-6"]
        assert codes(report, "Language of Content Item and Descendants") == ["en-US"]
        uids += [item.UID for item in items(report, "Device Observer UID")]
    assert uids[0] == uids[1] != uids[2]
    assert (report.Modality, report.SOPClassUID) == ("SR", pydicom.uid.EnhancedSRStorage)


@pytest.mark.parametrize(
    ("category", "kind", "modifiers", "site", "side", "part"),
    [
        (ANATOMY, HIPPOCAMPUS, (sct("7771000", "Left"),), ["5366008"], ["7771000"], []),
        (ANATOMY, HIPPOCAMPUS, (sct("24028007", "Right"),), ["5366008"], ["24028007"], []),
        (ANATOMY, HIPPOCAMPUS, (sct("51440002", "Right and left"),), ["5366008"], ["51440002"], []),
        (ANATOMY, HIPPOCAMPUS, (sct("255551008", "Posterior"),), ["5366008"], [], ["255551008"]),
        (ANATOMY, HIPPOCAMPUS, (), ["5366008"], [], []),
        (ABNORMAL, NEOPLASM, (), [], [], []),
        (ABNORMAL, NEOPLASM, (sct("24028007", "Right"),), ["123037004"], ["24028007"], []),
        (None, None, (), [], [], []),
        (ANATOMY, HIPPOCAMPUS, (sct("7771000", "Left"), ANTERIOR), ["5366008"], ["7771000"], ["255549009"]),
        (ANATOMY, HIPPOCAMPUS, (ANTERIOR, sct("7771000", "Left")), ["5366008"], ["7771000"], ["255549009"]),
    ],
)
def test_modifiers_are_sides_or_parts_of_the_site(tmp_path, category, kind, modifiers, site, side, part):
    structures = (Label(1, "structure", category, kind, modifiers, None),)
    sources = make_series(tmp_path / "series", axial_affine(), SHAPE)
    write(tmp_path, phantom(structures=structures), sources, structures=structures)
    check_report(tmp_path / "sr.dcm")
    report = pydicom.dcmread(tmp_path / "sr.dcm")
    assert (codes(report, "Finding Site"), codes(report, "Laterality")) == (site, side)
    assert codes(report, "Topographical modifier") == part


def evidence(report):
    return {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def test_segments_of_a_labelmap_are_not_referred_to(tmp_path):
    sources = make_series(tmp_path / "series", axial_affine(), SHAPE)
    write(tmp_path, phantom(), sources, encoding="labelmap")
    groups = check_report(tmp_path / "sr.dcm")
    assert {group["SourceSeriesForImageSegmentation"] for group in groups} == {sources[0].SeriesInstanceUID}
    report, seg = pydicom.dcmread(tmp_path / "sr.dcm"), pydicom.dcmread(tmp_path / "seg.dcm")
    assert list(items(report, "Referenced Segment")) == []
    assert evidence(report) == {seg.SOPInstanceUID, *(source.SOPInstanceUID for source in sources)}


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
@pytest.mark.parametrize("found", [(), (5,), (1, 2)])
def test_what_was_not_found_is_said(tmp_path, found, encoding):
    sources = make_series(tmp_path / "series", axial_affine(), SHAPE)
    volume = phantom()
    volume = Volume(np.where(np.isin(volume.array, found), volume.array, 0).astype(np.uint8), volume.affine)
    written = write(tmp_path, volume, sources, encoding=encoding)
    groups = check_report(tmp_path / "sr.dcm")
    assert volumes_of(groups) == written
    assert set(written) == {one.name for one in STRUCTURES if one.index in found}
    missing = [group["TrackingIdentifier"] for group in groups if "260415000" in str(group)]
    assert missing == [one.name for one in STRUCTURES if one.index not in found]


def test_one_voxel_is_a_finding(tmp_path):
    sources = make_series(tmp_path / "series", axial_affine(), SHAPE)
    array = np.zeros((1, *SHAPE), np.uint8)
    array[0, 3, 4, 5] = 5
    assert write(tmp_path, Volume(array, phantom().affine), sources) == {"tumour": 0.0022}
    assert volumes_of(check_report(tmp_path / "sr.dcm")) == {"tumour": 0.0022}


def test_an_enhanced_source(tmp_path):
    sources = [make_enhanced(tmp_path / "enhanced.dcm", oblique_affine(), SHAPE)]
    written = write(tmp_path, phantom(oblique_affine()), sources)
    assert volumes_of(check_report(tmp_path / "sr.dcm")) == written


def test_seg_report_and_sources_belong_together(tmp_path):
    def rename(dataset, index):
        dataset.PatientName = "Phantom^Zoe"  # ASCII: dcentvfy compares bytes, whatever the character set

    sources = make_series(tmp_path / "series", axial_affine(), SHAPE, change=rename)
    write(tmp_path, phantom(), sources)
    files = [tmp_path / "seg.dcm", tmp_path / "sr.dcm", *sorted((tmp_path / "series").iterdir())]
    assert errors_of("dcentvfy", *files) == []
    assert len(errors_of("dcentvfy", *files[:2])) > 0  # else it would not look


def change_volume(name, factor):
    return lambda ml: {**ml, name: ml[name] * factor}


@pytest.mark.parametrize(
    "change",
    [
        change_volume("tumour", 1.05),
        change_volume("left hippocampus", 0.95),
        change_volume("tumour", 0),
        change_volume("tumour", float("nan")),
        lambda ml: {name: value for name, value in ml.items() if name != "tumour"},
    ],
)
def test_volumes_that_are_not_those_of_the_segments_are_refused(tmp_path, change):
    sources = make_series(tmp_path / "series", axial_affine(), SHAPE)
    with pytest.raises(OutputError, match="must equal its segment's"):
        write(tmp_path, phantom(), sources, ml=change(millilitres(phantom())))
    assert {path.name for path in tmp_path.iterdir()} == {"series", "seg.dcm"}


def test_a_voxel_is_not_nothing_and_nothing_is_not_a_voxel(tmp_path):
    sources = make_series(tmp_path / "series", axial_affine(), SHAPE)
    array = np.zeros((1, *SHAPE), np.uint8)
    with pytest.raises(OutputError, match="must equal its segment's"):
        write(tmp_path, Volume(array, phantom().affine), sources, ml={"tumour": 0.001})
    array[0, 3, 4, 5] = 5
    with pytest.raises(OutputError, match="must equal its segment's"):
        write(tmp_path, Volume(array, phantom().affine), sources, ml={})


def test_a_report_that_reads_otherwise_is_not_delivered(tmp_path):
    sources = make_series(tmp_path / "series", axial_affine(), SHAPE)
    structures = (Label(1, "spaces at the end  ", None, None, (), None),)  # DICOM does not tell them from padding
    with pytest.raises(OutputError, match="must state the given volumes"):
        write(tmp_path, phantom(structures=structures), sources, structures=structures)
    assert {path.name for path in tmp_path.iterdir()} == {"series", "seg.dcm"}


def test_a_rounded_volume_is_taken(tmp_path):
    sources = make_series(tmp_path / "series", axial_affine(), SHAPE)
    ml = {name: value * 1.0005 for name, value in millilitres(phantom()).items()}
    assert write(tmp_path, phantom(), sources, ml=ml) == pytest.approx(ml, rel=1e-5)


def test_a_seg_of_other_structures_studies_or_kinds_is_refused(tmp_path):
    sources = make_series(tmp_path / "series", axial_affine(), SHAPE)
    write(tmp_path, phantom(), sources)
    seg = parse_seg(tmp_path / "seg.dcm")
    common = {"ml": millilitres(phantom()), "sources": sources, "algorithm": ALGORITHM}
    more = (*STRUCTURES, Label(6, "another", None, None, (), None))
    with pytest.raises(OutputError, match="another"):
        write_dicom_sr(tmp_path / "a.dcm", seg=seg, structures=more, **common)
    with pytest.raises(InputError, match="must be DICOM SEG"):
        parse_seg(tmp_path / "series" / "000.dcm")
    common["sources"] = make_series(tmp_path / "other", axial_affine(), SHAPE)
    with pytest.raises(OutputError, match="of another study"):
        write_dicom_sr(tmp_path / "a.dcm", seg=seg, structures=STRUCTURES, **common)
    assert not (tmp_path / "a.dcm").exists()


@pytest.mark.parametrize("name", ["Müller^Zoë", "Muster"])
def test_names_of_patients_are_kept_and_not_printed(tmp_path, name, capfd):
    def rename(dataset, index):
        dataset.PatientName = name

    sources = make_series(tmp_path / "series", axial_affine(), SHAPE, change=rename)
    common = {"structures": STRUCTURES, "sources": sources, "algorithm": ALGORITHM}
    other = make_series(tmp_path / "plain", axial_affine(), SHAPE)
    for one, two in zip(other, sources, strict=True):  # only the report is asked here
        one.StudyInstanceUID = two.StudyInstanceUID
    _, seg = write_dicom_seg(phantom(), tmp_path / "seg.dcm", **{**common, "sources": other})
    write_dicom_sr(tmp_path / "sr.dcm", seg=seg, ml=millilitres(phantom()), **common)
    check_report(tmp_path / "sr.dcm")
    assert pydicom.dcmread(tmp_path / "sr.dcm").PatientName == name
    assert name.split("^")[0] not in "".join(capfd.readouterr())


def test_who_has_no_name_is_not_named(tmp_path):
    sources = make_series(tmp_path / "series", axial_affine(), SHAPE)
    volume = phantom()
    common = {"structures": STRUCTURES, "sources": sources}
    _, seg = write_dicom_seg(volume, tmp_path / "seg.dcm", algorithm=ALGORITHM, **common)
    write_dicom_sr(tmp_path / "sr.dcm", seg=seg, ml=millilitres(volume), algorithm=Algorithm("", ""), **common)
    assert not any("measurementAlgorithmIdentification" in group for group in check_report(tmp_path / "sr.dcm"))
