"""RT structure sets: every voxel comes back in other rasterisers, whatever the grid; those of others are read."""

import importlib.metadata
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK
from helpers.dicom_checks import contours_of, errors_of, masks_by_matplotlib, run
from helpers.dicom_phantoms import (
    LPS_TO_RAS,
    TURNS,
    axial_affine,
    label_phantom,
    make_enhanced,
    make_series,
    oblique_affine,
    tilted_affine,
    turned,
    with_delimiters,
)

from unetpp_monai.dicom.rtstruct import read_dicom_rtstruct, write_dicom_rtstruct
from unetpp_monai.dicom.seg import write_dicom_seg
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.errors import AmbiguityError, CorruptFileError, GeometryError, InputError, OutputError
from unetpp_monai.io import read_volume
from unetpp_monai.io.label_files import read_label_file
from unetpp_monai.labels import Code, Label, label_colour
from unetpp_monai.provenance import Algorithm
from unetpp_monai.volume import Volume

SHAPE = (14, 12, 6)
ANATOMY, LEFT = Code("123037004", "SCT", "Anatomical Structure"), Code("7771000", "SCT", "Left")
ANTERIOR = Code("255549009", "SCT", "Anterior")
STRUCTURES = (
    Label(1, "Gefäß links", ANATOMY, Code("5366008", "SCT", "Hippocampus"), (LEFT, ANTERIOR), (10, 20, 255)),
    Label(2, "long code", None, Code("123456789012345678", "SCT", "A concept with a long identifier"), (), (0, 1, 2)),
    Label(3, "no codes", None, None, (), (9, 8, 7)),
    Label(200, "no voxels", ANATOMY, Code("5366008", "SCT", "Hippocampus"), (), (255, 0, 0)),
)
ALGORITHM = Algorithm("unetpp_phantom", "1.2.3", {"weights_sha256": "ab" * 32, "depth": "4"})
AFFINES = {
    "axial": axial_affine(),
    "oblique": oblique_affine(),
    "sagittal": np.array([[0, 0, 2.5, -9], [0.8, 0, 0, 4], [0, -1.1, 0, 30], [0, 0, 0, 1]]),
    "backwards": axial_affine(spacing=(0.8, 1.1, -2.5)),
}


def noise(affine, shape=SHAPE, seed=0):
    """Labels with holes, islands and corners that touch, in all slices but one."""
    labels = np.random.default_rng(seed).choice(4, shape, p=(0.4, 0.3, 0.2, 0.1)).astype(np.uint8)
    labels[:, :, 2] = 0
    labels[2:9, 2:9, 3] = 1
    labels[3:8, 3:8, 3] = 0
    labels[5, 5, 3] = 1
    return Volume(labels[None], LPS_TO_RAS @ affine)


def write(labels, path, sources, structures=STRUCTURES):
    return write_dicom_rtstruct(labels, path, structures=structures, sources=sources, algorithm=ALGORITHM)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    return {name: (folder / name, make_series(folder / name, affine, SHAPE)) for name, affine in AFFINES.items()}


@pytest.mark.parametrize(
    ("name", "turn"),
    [
        *((name, turn) for name in ("axial", "oblique") for turn in TURNS[::11]),  # all of them in test_outputs.py
        ("sagittal", TURNS[0]),
        ("backwards", TURNS[0]),
    ],
    ids=str,
)
def test_every_voxel_is_found_by_another_rasteriser(tmp_path, series, name, turn):
    labels, sources, path = noise(AFFINES[name]), series[name][1], tmp_path / "rtstruct.dcm"
    proof = write(turned(labels, *turn), path, sources)
    assert (proof.voxels, proof.different) == (np.count_nonzero(labels.array), 0)
    assert proof.largest_mm < 2e-4
    dataset = pydicom.dcmread(path)
    for label in STRUCTURES:
        np.testing.assert_array_equal(
            masks_by_matplotlib(dataset, label.index, sources), labels.array[0] == label.index
        )


@pytest.mark.parametrize("turn", TURNS[::7], ids=str)
@pytest.mark.parametrize("name", AFFINES)
def test_we_read_what_we_wrote(tmp_path, series, name, turn):
    folder, sources = series[name]
    labels, path = noise(AFFINES[name]), tmp_path / "rtstruct.dcm"
    write(labels, path, sources)
    grid = turned(Volume(np.zeros((1, *SHAPE)), labels.affine), *turn)
    read, structures = read_dicom_rtstruct(path, grid)
    np.testing.assert_array_equal(read.array, turned(labels, *turn).array)
    assert read.array.dtype == np.uint8
    assert read.same_grid(grid)
    assert structures == STRUCTURES
    on_series = read_dicom_rtstruct(path, read_volume(folder))[0]  # the reader sorts slices along their normal
    assert np.count_nonzero(on_series.array) == np.count_nonzero(labels.array)


@pytest.mark.parametrize("name", ["axial", "oblique", "backwards"])  # it takes contours of other series for axial ones
def test_plastimatch_finds_every_voxel(tmp_path, series, name):
    folder, sources = series[name]
    labels, path = noise(AFFINES[name]), tmp_path / "rtstruct.dcm"
    write(labels, path, sources)
    out = tmp_path / "masks"
    run("plastimatch", "convert", "--input", path, "--referenced-ct", folder, "--output-prefix", out)
    assert len(list(out.iterdir())) == 3
    for label in STRUCTURES[:3]:
        image = SimpleITK.ReadImage(str(out / f"{label.name}.mha"))
        indices = np.argwhere(labels.array[0] == label.index)
        places = indices @ AFFINES[name][:3, :3].T + AFFINES[name][:3, 3]
        found = [image[image.TransformPhysicalPointToIndex(place)] for place in places.tolist()]
        assert all(found)
        assert np.count_nonzero(SimpleITK.GetArrayViewFromImage(image)) == len(indices)


def test_what_the_file_says(tmp_path, series):
    sources, path = series["oblique"][1], tmp_path / "rtstruct.dcm"
    write(noise(AFFINES["oblique"]), path, sources)
    dataset, first = pydicom.dcmread(path), sources[0]
    for tag in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert dataset[tag].value == first[tag].value
    assert dataset.SeriesInstanceUID != first.SeriesInstanceUID
    assert (dataset.SeriesNumber, dataset.StructureSetLabel) == (3003, "unetpp_phantom")
    frame = dataset.ReferencedFrameOfReferenceSequence[0]
    study = frame.RTReferencedStudySequence[0]
    assert (frame.FrameOfReferenceUID, study.ReferencedSOPInstanceUID) == (
        first.FrameOfReferenceUID,
        first.StudyInstanceUID,
    )
    listed = study.RTReferencedSeriesSequence[0].ContourImageSequence
    assert [item.ReferencedSOPInstanceUID for item in listed] == [source.SOPInstanceUID for source in sources]
    for roi, shown, label in zip(dataset.StructureSetROISequence, dataset.ROIContourSequence, STRUCTURES, strict=True):
        assert (roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm) == (label.index, label.name, "AUTOMATIC")
        made_by = roi.ROIDerivationAlgorithmIdentificationSequence[0]
        assert (made_by.AlgorithmName, made_by.AlgorithmVersion) == (ALGORITHM.name, ALGORITHM.version)
        assert list(shown.ROIDisplayColor) == list(label_colour(label))
    kinds = [item.get("RTROIIdentificationCodeSequence") for item in dataset.RTROIObservationsSequence]
    assert kinds[0][0].CodeValue == "5366008"
    modifiers = kinds[0][0].SegmentedPropertyTypeModifierCodeSequence
    assert [item.CodeValue for item in modifiers] == ["7771000", "255549009"]
    assert kinds[1][0].LongCodeValue == "123456789012345678"
    assert kinds[2] is None
    assert "ContourSequence" not in dataset.ROIContourSequence[3]
    raw = dataset.ROIContourSequence[0].ContourSequence[0].get_item("ContourData").value
    assert max(map(len, raw.strip().split(b"\\"))) <= 16


@pytest.mark.parametrize("empty", [False, True], ids=["labels", "nothing"])
@pytest.mark.parametrize("bare", [False, True], ids=["whole headers", "bare headers"])
def test_dciodvfy_and_dcentvfy_find_no_error(tmp_path, empty, bare):
    def strip(dataset, index):
        dataset.SpecificCharacterSet = "ISO_IR 192"  # dcentvfy compares names byte by byte
        for tag in ("PatientBirthDate", "PatientSex", "ReferringPhysicianName", "AccessionNumber", "StudyID"):
            if bare:
                delattr(dataset, tag)

    sources = make_series(tmp_path / "series", oblique_affine(), SHAPE, change=strip)
    labels, path = noise(oblique_affine()), tmp_path / "rtstruct.dcm"
    labels = Volume(labels.array * (not empty), labels.affine)
    assert write(labels, path, sources).voxels == np.count_nonzero(labels.array)
    assert errors_of("dciodvfy", path) == []
    if not bare:
        found = errors_of("dcentvfy", path, *sorted((tmp_path / "series").iterdir()))
        assert [line for line in found if sources[0].StudyInstanceUID not in line] == []  # the study is no object
    if empty:
        with pytest.raises(InputError, match="must have closed contours, got none"):
            read_dicom_rtstruct(path, labels)
        return
    read, structures = read_dicom_rtstruct(path, labels)
    np.testing.assert_array_equal(read.array, labels.array)
    assert structures == STRUCTURES


@pytest.mark.parametrize("shared", [True, False])
def test_frames_of_an_enhanced_image_are_named(tmp_path, shared):
    source = make_enhanced(tmp_path / "enhanced.dcm", oblique_affine(), SHAPE, shared=shared)
    labels, path = noise(oblique_affine()), tmp_path / "rtstruct.dcm"
    write(turned(labels, (2, 0, 1), (1, 0, 1)), path, [source])
    frames = {reference.ReferencedFrameNumber for _, reference in contours_of(pydicom.dcmread(path), 1)}
    assert frames == {1, 2, 4, 5, 6}
    for points, reference in contours_of(pydicom.dcmread(path), 1):
        index = np.linalg.solve(oblique_affine()[:3, :3], (points - oblique_affine()[:3, 3]).T)[2]
        np.testing.assert_allclose(index, reference.ReferencedFrameNumber - 1, atol=1e-3)
    assert errors_of("dciodvfy", path) == []


def test_contours_follow_slices_that_jitter(tmp_path):
    rng = np.random.default_rng(1)

    def jitter(dataset, index):
        place = np.array(dataset.ImagePositionPatient, float) + rng.uniform(-0.04, 0.04, 3)
        dataset.ImagePositionPatient = [round(float(value), 6) for value in place]

    sources = make_series(tmp_path / "series", oblique_affine(), SHAPE, change=jitter)
    volume = read_volume(tmp_path / "series")
    labels, path = Volume(noise(oblique_affine()).array, volume.affine), tmp_path / "rtstruct.dcm"
    assert 0.01 < write(labels, path, sources).largest_mm < 0.1
    found = masks_by_matplotlib(pydicom.dcmread(path), 1, sources)
    np.testing.assert_array_equal(found, labels.array[0] == 1)


def test_one_slice_and_long_contours(tmp_path):
    shape = (62, 60, 1)
    labels = np.ones(shape, np.uint8)
    labels[1:-1:2, 1:-1:2] = 0  # one contour around 870 holes, more than 64 kB
    sources = make_series(tmp_path / "series", oblique_affine(), shape)
    path = tmp_path / "rtstruct.dcm"
    volume = Volume(labels[None], LPS_TO_RAS @ oblique_affine())
    write(volume, path, sources)
    assert path.stat().st_size > 1 << 16
    assert errors_of("dciodvfy", path) == []
    np.testing.assert_array_equal(masks_by_matplotlib(pydicom.dcmread(path), 1, sources)[:, :, 0], labels[:, :, 0])


def shifted(volume, offset):
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ offset
    return Volume(volume.array, affine)


@pytest.mark.parametrize(
    "change",
    [
        lambda volume: shifted(volume, (0, 0, 0.5)),
        lambda volume: Volume(volume.array, LPS_TO_RAS @ axial_affine()),
        lambda volume: Volume(volume.array, LPS_TO_RAS @ tilted_affine()),
    ],
    ids=["between", "turned", "tilted"],
)
def test_grids_in_other_planes_are_refused(tmp_path, series, change):
    with pytest.raises(OutputError, match=r"a label map on another grid|must be inside the source"):
        write(change(noise(AFFINES["oblique"])), tmp_path / "rtstruct.dcm", series["oblique"][1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda volume: shifted(volume, (0.5, -3, 0)),
        lambda volume: Volume(volume.array[:, 1:], volume.affine),
        lambda volume: Volume(volume.array, volume.affine @ np.diag([1.02, 0.7, 1, 1])),
    ],
    ids=["shifted", "cropped", "scaled"],
)
def test_other_grids_in_the_same_planes(tmp_path, series, change):
    labels, path = change(noise(AFFINES["oblique"])), tmp_path / "rtstruct.dcm"
    assert write(labels, path, series["oblique"][1]).largest_mm < 1e-3
    np.testing.assert_array_equal(read_dicom_rtstruct(path, labels)[0].array, labels.array)


def test_a_tilted_gantry(tmp_path):
    """Its volume is upright, in the planes of the images but not on their pixels."""
    sources = make_series(tmp_path / "series", tilted_affine(), SHAPE)
    image = read_dicom_series(tmp_path / "series")
    assert "tilted" in image.remarks[0] and image.volume.shape != SHAPE
    labels = Volume((image.volume.array > np.median(image.volume.array)).astype(np.uint8), image.volume.affine)
    path = tmp_path / "rtstruct.dcm"
    assert write(labels, path, sources, STRUCTURES[:1]).largest_mm < 1e-3
    assert errors_of("dciodvfy", path) == []
    np.testing.assert_array_equal(read_dicom_rtstruct(path, labels)[0].array, labels.array)


def test_what_cannot_be_written_leaves_no_file(tmp_path, series):
    labels, path, sources = noise(AFFINES["axial"]), tmp_path / "rtstruct.dcm", series["axial"][1]
    with pytest.raises(OutputError, match=r"must have a structure, got \[3\] besides \[1, 2\]"):
        write(labels, path, sources, STRUCTURES[:2])
    with pytest.raises(OutputError, match="got none; give a DICOM input"):
        write(labels, path, [])
    with pytest.raises(OutputError, match="must have 1 channel, got 2"):
        write(Volume(np.repeat(labels.array, 2, axis=0), labels.affine), path, sources)
    tiny = axial_affine(spacing=(1e-4, 1e-4, 1.0))  # a coordinate's last decimal is a whole voxel
    sources = make_series(tmp_path / "tiny", tiny, SHAPE)
    shutil.rmtree(tmp_path / "tiny")
    with pytest.raises(OutputError, match=r"different voxels when read back|could not be read back"):
        write(noise(tiny), path, sources)
    assert list(tmp_path.iterdir()) == []


def square(low, high, z=40.0, kind="CLOSED_PLANAR"):
    """A contour around the voxels low ... high of the axial phantom's rows and columns, as others write it."""
    item = pydicom.Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = kind, 4
    corners = [(low, low), (high, low), (high, high), (low, high)]
    item.ContourData = [part for x, y in corners for part in (-20 + 0.8 * x, -30.5 + 1.1 * y, z)]
    return item


def foreign(tmp_path, *contours, modality="RTSTRUCT", number=7, more=()):
    """A structure set with no more in it than must be."""
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.RTStructureSetStorage, pydicom.uid.generate_uid()
    dataset.Modality, dataset.StructureSetROISequence, dataset.ROIContourSequence = modality, [], []
    for value, parts in ((number, contours), *((number + 1, part) for part in more)):
        roi, shown = pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber, roi.ROIName, shown.ReferencedROINumber, shown.ContourSequence = (
            value,
            f"r{value}",
            value,
            list(parts),
        )
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(shown)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.save_as(tmp_path / "foreign.dcm", enforce_file_format=True)
    return tmp_path / "foreign.dcm"


GRID = Volume(np.zeros((1, *SHAPE)), LPS_TO_RAS @ axial_affine())


def boxes(*parts, value=7):
    """A label map with squares set (True) or cleared (False) in its first plane."""
    expected = np.zeros(SHAPE, np.uint8)
    for low, high, filled in parts:
        expected[low:high, low:high, 0] = value if filled else 0
    return expected


XOR = "CLOSEDPLANAR_XOR"
OUTER, INNER, BESIDE = square(1.5, 9.5), square(3.5, 6.5), square(6.5, 10.5)


@pytest.mark.parametrize(
    ("contours", "parts", "remark"),
    {
        "within one another, exclusive": (
            [square(1.5, 9.5, kind=XOR), square(3.5, 6.5, kind=XOR)],
            [(2, 10, True), (4, 7, False)],
            None,
        ),
        "a hole by its type alone": ([OUTER, square(3.5, 6.5, kind=XOR)], [(2, 10, True), (4, 7, False)], None),
        "within one another": ([OUTER, INNER], [(2, 10, True)], (64, 55)),
        "one twice": ([OUTER, OUTER], [(2, 10, True)], (64, 0)),
        "one three times": ([INNER, INNER, INNER], [(4, 7, True)], None),
        "overlapping": ([square(1.5, 7.5), BESIDE], [(2, 8, True), (7, 11, True)], (51, 50)),
        "side by side": ([square(1.5, 6.5), BESIDE], [(2, 7, True), (7, 11, True)], None),
        "exclusive twice is nothing, beside one": ([square(1.5, 3.5, kind=XOR)] * 2 + [BESIDE], [(7, 11, True)], None),
    }.values(),
)
def test_contours_of_one_structure(tmp_path, caplog, contours, parts, remark):
    """A CLOSED_PLANAR contour adds its voxels, a CLOSEDPLANAR_XOR one turns them; who may mean holes is told."""
    volume, structures = read_dicom_rtstruct(foreign(tmp_path, *contours), GRID)
    np.testing.assert_array_equal(volume.array[0], boxes(*parts))
    assert structures == (Label(7, "r7", None, None, (), None),)
    ml = [f"{count * GRID.voxel_ml:.4g} mL" for count in remark or ()]
    assert [[part for part in ml if part in record.getMessage()] for record in caplog.records] == ([ml] if ml else [])


def test_a_keyhole_stays_a_hole(tmp_path):
    item = square(1.5, 9.5)
    ring = [(1.5, 1.5), (9.5, 1.5), (9.5, 9.5), (1.5, 9.5), (1.5, 3.5), (3.5, 3.5), (3.5, 6.5), (6.5, 6.5), (6.5, 3.5),
            (3.5, 3.5), (1.5, 3.5)]  # fmt: skip
    item.NumberOfContourPoints = len(ring)
    item.ContourData = [part for x, y in ring for part in (-20 + 0.8 * x, -30.5 + 1.1 * y, 40.0)]
    volume, _ = read_dicom_rtstruct(foreign(tmp_path, item), GRID)
    np.testing.assert_array_equal(volume.array[0], boxes((2, 10, True), (4, 7, False)))


def test_structures_are_chosen_by_name(tmp_path):
    path = foreign(tmp_path, square(-0.5, 11.5), more=[[square(1.5, 5.5)]])
    with pytest.raises(AmbiguityError, match="'r8' over others; choose of 'r7', 'r8'") as caught:
        read_dicom_rtstruct(path, GRID)
    assert caught.value.option == "rois"
    for name in ("r8", " R8"):
        volume, structures = read_dicom_rtstruct(path, GRID, only=[name])
        np.testing.assert_array_equal(volume.array[0], boxes((2, 6, True), value=8))
        assert [label.name for label in structures] == ["r8"]
    with pytest.raises(InputError, match="got 'liver', which matches 0 of: 'r7', 'r8'"):
        read_dicom_rtstruct(path, GRID, only=["r8", "liver"])


def test_structures_without_closed_contours(tmp_path, caplog):
    lines = [square(1, 5, kind="OPEN_PLANAR"), square(0, 9, z=41.0, kind="POINT")]
    for contours, kinds in ((lines, "OPEN_PLANAR, POINT"), ([], "none")):
        with pytest.raises(InputError, match=f"got none in .* type {kinds}"):
            read_dicom_rtstruct(foreign(tmp_path, *contours, number=4711), GRID)
    for contour in (square(50, 60), square(3.6, 3.9)):  # beside the grid, between the centres of voxels
        with pytest.raises(InputError, match="must contain voxels of their series, got none"):
            read_dicom_rtstruct(foreign(tmp_path, contour), GRID)
    volume, structures = read_dicom_rtstruct(foreign(tmp_path, *lines, more=[[square(1.5, 5.5)]], number=4711), GRID)
    np.testing.assert_array_equal(volume.array[0], boxes((2, 6, True), value=2))
    assert [(label.index, label.name) for label in structures] == [(1, "r4711"), (2, "r4712")]
    assert [record.getMessage() for record in caplog.records] == [
        "r4711: no closed contour (contours of type OPEN_PLANAR, POINT)"
    ]


@pytest.mark.parametrize("colour", [[300, 0, 0], [1, 2], [-1, 0, 0], None])
def test_a_colour_that_is_none_is_replaced(tmp_path, colour):
    path = foreign(tmp_path, square(1.5, 5.5))
    dataset = pydicom.dcmread(path)
    dataset.ROIContourSequence[0].ROIDisplayColor = colour
    dataset.save_as(path)
    volume, structures = read_dicom_rtstruct(path, GRID)
    assert (np.count_nonzero(volume.array), structures[0].colour) == (16, None)


def test_what_lies_beside_the_grid_is_cut_off(tmp_path):
    volume, _ = read_dicom_rtstruct(foreign(tmp_path, square(-5.5, 3.5)), GRID)
    assert np.argwhere(volume.array[0]).max(axis=0).tolist() == [3, 3, 0]


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(GeometryError, match=r"must be in one of the 6 planes of the grid, got 'r7' at plane 0\.4"):
        read_dicom_rtstruct(foreign(tmp_path, square(2, 5, z=41.0)), GRID)
    with pytest.raises(GeometryError, match="at plane 7"):
        read_dicom_rtstruct(foreign(tmp_path, square(2, 5, z=57.5)), GRID)
    with pytest.raises(AmbiguityError, match="of a label map must not overlap, got 'r8' over others"):
        read_dicom_rtstruct(foreign(tmp_path, square(1.5, 5.5), more=[[square(4.5, 8.5)]]), GRID)
    with pytest.raises(InputError, match="must have the modality RTSTRUCT, got CT"):
        read_dicom_rtstruct(foreign(tmp_path, modality="CT"), GRID)
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(CorruptFileError, match="not a readable DICOM file"):
        read_dicom_rtstruct(tmp_path / "text.dcm", GRID)
    broken = foreign(tmp_path, square(2, 5)).read_bytes().replace(b"-20", b"x20").replace(b"-18.4", b"-1x.4")
    (tmp_path / "text.dcm").write_bytes(broken)
    with pytest.raises(InputError, match="not a readable structure set"):
        read_dicom_rtstruct(tmp_path / "text.dcm", GRID)


@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
def test_a_cut_file_is_not_another_label_map(tmp_path, series, undefined):
    labels, path = noise(AFFINES["axial"]), tmp_path / "case.dcm"
    write(labels, path, series["axial"][1])
    if undefined:
        with_delimiters(path)
    whole, outcomes = path.read_bytes(), set()
    end = whole.index(b"UNAPPROVED") - 8  # ApprovalStatus, the last element
    for cut in range(400, end, max(1, end // 150)):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError) as caught:
            read_label_file(path, grid=labels)
        outcomes.add(type(caught.value))
    assert CorruptFileError in outcomes


def test_a_structure_set_by_plastimatch(tmp_path, series):
    folder, labels = series["axial"][0], label_phantom(SHAPE, AFFINES["axial"])
    (tmp_path / "masks").mkdir()
    for value in (1, 2, 3):
        image = SimpleITK.GetImageFromArray((labels.array[0] == value).astype(np.uint8).T)
        image.SetSpacing((0.8, 1.1, 2.5))
        image.SetOrigin(AFFINES["axial"][:3, 3].tolist())
        SimpleITK.WriteImage(image, str(tmp_path / "masks" / f"part{value}.nrrd"))
    out = tmp_path / "dicom"
    run(
        "plastimatch", "convert", "--input-prefix", tmp_path / "masks", "--output-dicom", out, "--referenced-ct", folder
    )
    path = next(path for path in out.iterdir() if pydicom.dcmread(path).Modality == "RTSTRUCT")
    read, structures = read_dicom_rtstruct(path, labels)
    assert sorted(label.name for label in structures) == ["part1", "part2", "part3"]
    for label in structures:
        ours, theirs = read.array == label.index, labels.array == int(label.name[-1])
        assert 2 * np.count_nonzero(ours & theirs) / (np.count_nonzero(ours) + np.count_nonzero(theirs)) > 0.9


def test_the_reader_is_named(tmp_path, series):
    proof = write(noise(AFFINES["axial"]), tmp_path / "rtstruct.dcm", series["axial"][1])
    assert proof.reader == f"pydicom {importlib.metadata.version('pydicom')}"


@pytest.mark.parametrize("writer", ["rtstruct", "seg"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", ["axial", "oblique", "backwards"])
@pytest.mark.slow
def test_labels_beside_the_images_are_refused_or_said(tmp_path, series, caplog, writer, name, axis):
    sources = series[name][1]
    labels = noise(AFFINES[name])
    steps = np.array(SHAPE) * (np.arange(3) == axis)

    def shifted(share):  # whole voxels, so that a lattice stays one
        place = np.eye(4)
        place[:3, 3] = np.round(steps * share)
        return Volume(labels.array, labels.affine @ place)

    def write_as(volume):
        if writer == "rtstruct":
            return write(volume, tmp_path / "a.dcm", sources)
        return write_dicom_seg(volume, tmp_path / "a.dcm", structures=STRUCTURES, sources=sources, algorithm=ALGORITHM)

    with pytest.raises(
        OutputError, match=r"labels must be inside the source images, got all \d+ labelled voxels outside"
    ):
        write_as(shifted(-2))
    assert not list(tmp_path.iterdir())
    if not (writer == "rtstruct" and axis == 2):  # whose contours need an image in their plane
        write_as(shifted(0.5))
        assert "labelled voxels are outside the source images" in caplog.text
    caplog.clear()
    write_as(labels)
    assert "beside" not in caplog.text


def test_contours_that_reach_beyond_the_images_are_said(tmp_path, series, caplog):
    folder, sources = series["axial"]
    place = np.eye(4)
    place[0, 3] = 7
    labels = noise(AFFINES["axial"])
    write(Volume(labels.array, labels.affine @ place), tmp_path / "a.dcm", sources)
    volume, _ = read_dicom_rtstruct(tmp_path / "a.dcm", grid=read_dicom_series(folder).volume)
    assert 0 < np.count_nonzero(volume.array) < np.count_nonzero(labels.array)
    assert "Gefäß links: contours extend beyond the images" in caplog.text


def test_a_colour_that_is_none_is_replaced_with_a_remark(tmp_path, series, caplog):
    folder, sources = series["axial"]
    write(noise(AFFINES["axial"]), tmp_path / "a.dcm", sources)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.ROIContourSequence[0].ROIDisplayColor = [300, 0, 0]
    del dataset.ROIContourSequence[1].ROIDisplayColor
    dataset.save_as(tmp_path / "a.dcm")
    _, structures = read_dicom_rtstruct(tmp_path / "a.dcm", grid=read_dicom_series(folder).volume)
    assert [structure.colour for structure in structures[:3]] == [None, None, (9, 8, 7)]
    assert caplog.text.count("its colour is not in sRGB and was replaced") == 1
