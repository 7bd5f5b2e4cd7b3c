"""Evil values in the text headers of NRRD and MetaImage, and in the keys and values of JSON."""

import json
from random import Random
from typing import Any

from hostile.bytewise import Damage

OUTSIDE = "outside.raw"  # a file beside the mutant's folder, which no header may make us read
NUMBERS = (
    "0",
    "-1",
    "1",
    "2",
    "4",
    "99999",
    "2147483648",
    "9223372036854775807",
    "1e309",
    "nan",
    "inf",
    "-inf",
    "x",
    "",
)
NRRD_VALUES = {
    "type": ("uchar", "double", "int64", "block", "complex", "", "string"),
    "dimension": ("0", "1", "2", "4", "16", "17", "-3", "99999999999"),
    "space": ("right-anterior-superior", "scanner-xyz", "left-posterior-superior-time", "3D-right-handed", "nowhere"),
    "sizes": ("0 0 0", "10 8", "10 8 6 1", "-10 8 6", "1500 1500 1500", "99999999999 1 1", "1 1 1", "10 8 6.5"),
    "space directions": (
        "none none none",
        "(0,0,0) (0,0,0) (0,0,0)",
        "(nan,0,0) (0,1,0) (0,0,1)",
        "(1,0) (0,1)",
        "1 1 1",
    ),
    "space origin": ("(nan,0,0)", "(1e39,0,0)", "(0,0)", "none", "(inf,inf,inf)"),
    "spacings": ("0 0 0", "nan nan nan", "1 1", "-1 -1 -1"),
    "kinds": ("domain domain list", "vector domain domain", "domain", "RGB-color domain domain"),
    "encoding": ("raw", "gzip", "bzip2", "ascii", "hex", "none", ""),
    "endian": ("little", "big", "middle", ""),
    "line skip": ("0", "-1", "1", "99999999", "x"),
    "byte skip": ("0", "-1", "-2", "1", "99999999999", "x"),
    "data file": (f"../{OUTSIDE}", "/dev/zero", "LIST", "nothing.raw", "%03d.raw 0 99999999 1", "x.nrrd"),
    "centers": ("cell cell cell", "node"),
    "measurement frame": ("(0,0,0) (0,0,0) (0,0,0)", "(nan,0,0) (0,1,0) (0,0,1)"),
    "old min": ("nan", "0"),
}
META_VALUES = {
    "ObjectType": ("Image", "Mesh", "Scene", "Tube", ""),
    "NDims": ("0", "1", "2", "4", "9", "11", "-3", "999999"),
    "DimSize": ("0 0 0", "10 8", "-10 8 6", "1500 1500 1500", "99999999999 1 1", "1 1 1"),
    "ElementType": ("MET_UCHAR", "MET_DOUBLE", "MET_LONG_LONG", "MET_ASCII_CHAR", "MET_NONE", "MET_OTHER", ""),
    "ElementSpacing": ("0 0 0", "nan nan nan", "-1 -1 -1", "1 1", "1e-30 1 1"),
    "ElementSize": ("0 0 0", "1 1"),
    "TransformMatrix": ("0 0 0 0 0 0 0 0 0", "nan 0 0 0 1 0 0 0 1", "1 0 0 1", "2 0 0 0 2 0 0 0 2"),
    "Offset": ("nan 0 0", "1e39 0 0", "0 0"),
    "CenterOfRotation": ("nan nan nan",),
    "AnatomicalOrientation": ("RAI", "???", "LPS"),
    "BinaryData": ("True", "False", "maybe"),
    "BinaryDataByteOrderMSB": ("True", "False"),
    "CompressedData": ("True", "False"),
    "CompressedDataSize": NUMBERS,
    "HeaderSize": ("-1", "0", "10", "99999999", "-2"),
    "ElementNumberOfChannels": NUMBERS,
    "ElementDataFile": (f"../{OUTSIDE}", "/dev/zero", "LIST", "LOCAL", "nothing.raw", "x.mha", "%03d.raw 0 99999999 1"),
    "Comment": ("A" * 5000,),
}


def nrrd_header(data: bytes, rng: Random) -> Damage:
    head, blank, body = data.partition(b"\n\n")
    lines, how = _change_line(head.decode("latin-1").split("\n"), ": ", NRRD_VALUES, rng, first=1)
    return "\n".join(lines).encode("latin-1") + blank + body, how


def metaimage_header(data: bytes, rng: Random) -> Damage:
    """Change a line; `ElementDataFile` stays the last one."""
    start = data.find(b"ElementDataFile")
    end = data.find(b"\n", start)
    head, body = data[: end + 1], data[end + 1 :]
    lines, how = _change_line(head.decode("latin-1").rstrip("\n").split("\n"), " = ", META_VALUES, rng, first=0)
    return "\n".join(lines).encode("latin-1") + b"\n" + body, how


def _change_line(lines: list[str], mark: str, values: dict[str, tuple[str, ...]], rng: Random, *, first: int):
    what = rng.choice(("value", "value", "value", "value", "number", "add", "drop", "twice", "key"))
    at = rng.randrange(first, len(lines))
    key, _, old = lines[at].partition(mark)
    if what == "add":
        key = rng.choice(list(values))
        lines.insert(at, f"{key}{mark}{rng.choice(values[key])}")
    elif what == "drop":
        del lines[at]
    elif what == "twice":
        lines.insert(at, lines[at])
    elif what == "key":
        lines[at] = f"{rng.choice(('', ' ', key[:-1], key.upper(), key * 50))}{mark}{old}"
    elif what == "number":
        words = old.split(" ") or [""]
        words[rng.randrange(len(words))] = rng.choice(NUMBERS)
        lines[at] = f"{key}{mark}{' '.join(words)}"
    else:
        lines[at] = f"{key}{mark}{rng.choice(values.get(key, NUMBERS))}"
    return lines, f"{what} of {key!r}" + (f": {lines[at][:80]!r}" if what in ("add", "number", "value") else "")


RAN = "ran"  # a folder that only code from a bundle can make
EVIL: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 1_000_000, 2**31, 2**63, 0.5, 1.0, -0.1, 1e308, float("nan"), float("inf")),
    *(
        "",
        "x",
        "3",
        "0.1",
        "cuda:99",
        "../..",
        "\u0000",
        "A" * 10_000,
        "$",
        "$1/0",
        "$[",
        "@nothing",
        "@inferer",
        "%x.json",
    ),
    *([], [0], [[]], [None, None, None], [1e9, 1e9, 1e9], [0, 0, 0], [-1, 48, 32], [32, 48], ["a"], {}, {"a": 1}),
    *(f"$__import__('os').mkdir('{RAN}')", {"_target_": "os.mkdir", "path": RAN}) * 2,
    *(f"$__import__('os').mkdir('{RAN}')", f"$open('{RAN}', 'w').close()", {"_target_": "os.mkdir", "path": RAN}),
    *("$9**9**8", "$' ' * 10**10", {"_target_": "nothing"}, {"_target_": "Compose"}, {"_target_": "torch.nn.Identity"}),
)
LEVELS = 400  # of a value that is nested too deeply


def json_values(data: bytes, rng: Random) -> Damage:
    """Change one or two values or keys of a JSON file."""
    document = json.loads(data)
    said = [_change_value(document, rng) for _ in range(rng.choice((1, 1, 1, 2)))]
    return json.dumps(document, indent=1).encode(), ", ".join(said)


def _change_value(document: Any, rng: Random) -> str:
    places = list(_places(document))
    if not places:
        return "nothing"
    parent, key = rng.choice(places)
    what = rng.choice(("evil", "evil", "evil", "evil", "delete", "key", "swap", "deep"))
    if what == "delete":
        del parent[key]
    elif what == "key" and isinstance(parent, dict):
        parent[rng.choice(("", "_disabled_", "_target_", "_mode_", "x", f"{key} "))] = parent.pop(key)
    elif what == "swap":
        other, name = rng.choice(places)
        parent[key] = json.loads(json.dumps(other[name]))
    elif what == "deep":
        deep = []
        for _ in range(LEVELS):
            deep = [deep]
        parent[key] = deep
    else:
        what = f"evil {str(value := rng.choice(EVIL))[:60]!r}"
        parent[key] = value
    return f"{key!r}: {what}"


def _places(value: Any):
    """Every value of a document, as what holds it and its key there."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])
