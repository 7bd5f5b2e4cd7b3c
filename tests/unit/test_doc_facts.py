"""A number that stands in several documents is the same in all, and that of the committed source; commands exist."""

import json
import re
import shlex

import pytest
import typer
from helpers import ROOT

from unetpp_monai.cli import app

TASKS = ROOT / "configs"
PLACES = ("*.md", "docs/*.md", "configs/*/docs/*.md", "benchmarks/*.md", "tests/bundles/*.md")
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text() for place in PLACES for path in ROOT.glob(place)}


def metadata(task):
    return json.loads((TASKS / task / "metadata.json").read_text())


CROPS, NUCLEI = metadata("hippocampus"), metadata("nuclei_2d")
EPOCHS = json.loads((TASKS / "hippocampus" / "task.json").read_text())["max_epochs"]


def results(name):
    """Rows of a committed result by their first column."""
    found = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    return {row[0]: dict(zip(found["columns"], row, strict=True)) for row in found["rows"]}


CROP, HEART, CT = results("speed_crop"), results("speed_heart"), results("speed_ct")
SCORES, FOLDS = results("hippocampus_uncertainty"), results("hippocampus_folds")
AUROC = "worst quarter of cases, AUROC"
GAINS = {
    row[0]: row[-1]
    for row in json.loads((ROOT / "benchmarks" / "results" / "annotation_dice.json").read_text())["rows"]
    if row[1] == "least certain"
}
CRUDE, FULL, AUTO = (CT[name] for name in ("monai:BasicUNetPlusPlus", "ours:openvino:full", "ours:openvino:auto"))


WHOLE = " and ".join(FOLDS[3][f"Dice {part}"].split(" ")[0] for part in ("anterior", "posterior"))


def times(value, digits=1):
    return f"{value:.{digits}f}×"  # noqa: RUF001


# what a sentence says, as a pattern; what it must say; in how many documents it stands at least
FACTS = [
    (r"worst quarter little better than\s+chance\W+AUROC (0\.\d+)", f"{CROPS['review']['auroc']:.2f}", 2),
    (r"flags a case from score (0\.\d+) on", str(CROPS["review"]["threshold"]), 2),
    (r"from score 0\.\d+ on: (\d+) % of such cases", f"{CROPS['review']['share']:.0%}"[:-1], 2),
    (r"of such cases, among\s+them (\d+) % of the worst quarter", f"{CROPS['review']['recall']:.0%}"[:-1], 2),
    (r"The review flag \(score (0\.\d+)\)", str(NUCLEI["review"]["threshold"]), 1),
    (r"and (\d+) % of the worst quarter \(disagreement", f"{NUCLEI['review']['recall']:.0%}"[:-1], 1),
    (r"worst quarter of the 107 pictures better \(AUROC (0\.\d+)\)", f"{NUCLEI['review']['auroc']:.2f}", 1),
    (r"(?:One run of `train.json`,|the shipped weights took) (\d+) epochs", str(EPOCHS), 2),
    (r"depth 3 (0\.\d{4}), auto 0\.\d{4}; before", f"{CROPS['eval_metrics']['val_mean_dice']:.4f}", 1),
    (r"BasicUNetPlusPlus takes (\d+ s and [\d.]+ GiB)", f"{CRUDE['seconds']:.0f} s and {CRUDE['peak GiB']} GiB", 1),
    (r"ours (\d+ s at full depth \([\d.]+ GiB)", f"{FULL['seconds']:.0f} s at full depth ({FULL['peak GiB']} GiB", 1),
    (r"and (\d+ s with `auto`)", f"{AUTO['seconds']:.0f} s with `auto`", 1),
    (r"BasicUNetPlusPlus eager \| yes: ([\d.]+.) \(crop\)", times(CROP["ours:openvino:3"]["speed-up"]), 1),
    (r"\(crop\), ([\d.]+.) \(heart\), ", times(HEART["ours:openvino:full"]["speed-up"]), 1),
    (r"\(heart\), ([\d.]+.) \(CT\)", times(FULL["speed-up"]), 1),
    (r"on the crop measured yes: ([\d.]+.) \(bfloat16", times(CROP["ours:openvino:auto"]["speed-up"]), 1),
    (r" \(bfloat16 ([\d.]+.)\), at", times(CROP["ours:openvino:auto:bfloat16"]["speed-up"]), 1),
    (r"on the heart ([\d.]+.), in bfloat16", times(HEART["ours:openvino:auto"]["speed-up"]), 1),
    (r"in bfloat16 ([\d.]+.); on", times(HEART["ours:openvino:auto:bfloat16"]["speed-up"]), 1),
    (r"where Dice has no meaning, (\d+.)", times(AUTO["speed-up"], 0), 1),
    (r"on the CT \(([\d.]+ of [\d.]+) GiB\)", f"{FULL['peak GiB']} of {CRUDE['peak GiB']}", 1),
    (r"yes: (\d+ % and [\d.]+) GiB at full", f"{FULL['share']:.0%} and {FULL['peak GiB']:.1f}".replace("%", " %"), 1),
    (r"depth, (\d+ % and [\d.]+) GiB with", f"{AUTO['share']:.0%} and {AUTO['peak GiB']:.1f}".replace("%", " %"), 1),
    (r"yes: ([\d.]+) s against", f"{CROP['ours:openvino:auto']['seconds']}", 1),
    (r"s against ([\d.]+) \(crop", f"{CROP['monai:BasicUNet']['seconds']}", 1),
    (r"\(crop\), ([\d.]+) against", f"{HEART['ours:openvino:auto']['seconds']:.2f}", 1),
    (r" against ([\d.]+) \(heart\)", f"{HEART['monai:BasicUNet']['seconds']:.2f}", 1),
    (r"AUROC 0\.\d+, beside (0\.\d+) for an ensemble", f"{SCORES['disagreement, ensemble of 3'][AUROC]}", 1),
    (r"ensemble of three networks and (0\.\d+) for MC", f"{SCORES['disagreement, MC dropout'][AUROC]}", 1),
    (r"ahead by (0\.\d+ ± 0\.\d+) of Dice with 16", GAINS[16].lstrip("+"), 1),
    (r"of Dice with 16 cases and by (0\.\d+ ± 0\.\d+)\s+with 32", GAINS[32].lstrip("+"), 1),
    (r"five folds\D+208 cases[^.]*has (0\.\d+ and 0\.\d+) ", WHOLE, 1),
    (r"mean over the 208 cases: (0\.\d+ and 0\.\d+) at full", WHOLE, 1),
    (r"nnU-Net is reported with about (0\.\d+(?: anterior)? and 0\.\d+)", None, 2),
    (r"Inference on CUDA is untested(; some trainings ran on a GPU\.)?", "; some trainings ran on a GPU.", 3),
]


def stated(pattern, texts):
    return {name: found for name, text in texts.items() if (found := re.findall(pattern, text))}


@pytest.mark.parametrize(("pattern", "value", "documents"), FACTS, ids=[pattern for pattern, *_ in FACTS])
def test_documents_agree_with_the_source(pattern, value, documents):
    found = stated(pattern, TEXTS)
    assert len(found) >= documents, f"moved or reworded: {found}"
    said = {one.replace(" anterior", "") for each in found.values() for one in each}
    assert len(said) == 1 and (value is None or said == {value}), found  # None: nothing here was measured


def test_a_number_that_differs_is_found():
    pattern, value, _ = FACTS[1]
    (name, *_) = stated(pattern, TEXTS)
    changed = TEXTS | {name: TEXTS[name].replace(value, "0.0097")}
    assert {one for found in stated(pattern, changed).values() for one in found} == {value, "0.0097"}


@pytest.mark.parametrize(("task", "table"), [(CROPS, CROP), (NUCLEI, results("speed_nuclei"))])
def test_seconds_of_a_task_are_those_of_the_speed_tables(task, table):
    for depth, row in task["depths"].items():
        assert table[f"ours:openvino:{depth}"]["seconds"] == row["seconds, 2 CPU cores"]


def test_a_task_and_its_card_have_the_same_figures():
    for depth, row in results("nuclei_fold0").items():
        assert row["IoU"] == NUCLEI["depths"][str(depth)]["IoU"]
    for row, part in zip(results("hippocampus_fold0").values(), ("anterior", "posterior"), strict=True):
        assert float(row["Dice"].split(" ")[0]) == CROPS["depths"]["3"][f"Dice {part}"]


def test_every_result_is_shown_with_its_command():
    shown = {name: " ".join(text.split()) for name, text in TEXTS.items()}
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        pages = [text for text in shown.values() if f"<!-- table: {path.stem} -->" in text]
        command = json.loads(path.read_text())["command"]
        assert len(pages) == 1 and command in pages[0], path.stem


def test_numbers_that_are_shown_as_a_table_are_not_typed_anywhere():
    """Tables of numbers in pages of results are made; what they say is not typed a second time."""
    pages = ("docs/speed.md", "docs/annotation.md", "docs/results_hippocampus.md", "docs/results_nuclei.md")
    for name in (*pages, "docs/cohort.md"):
        measured = TEXTS[name].partition("\n## Measured\n")[2] or TEXTS[name]
        text = re.sub(r"<!-- table: \w+ -->\n\n(?:\|.*\n)*", "", measured)
        tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
        assert all("goal on the CPU" in table for table in tables), name


def commands():
    """Lines of code blocks and code in sentences that call unetpp with options."""
    for name, text in TEXTS.items():
        blocks = re.findall(r"^ *```(?:bash|text)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
        lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        for line in [*lines, *re.findall(r"`(unetpp [^`]+)`", text)]:
            if (start := re.match(r"(?:[\w./-]*bin/)?unetpp (?!\.)", line)) and " ." not in line[-5:]:
                yield name, line[start.end() :].split("#")[0].split("&&")[0].split("|")[0]


def test_every_command_and_option_that_is_named_exists():
    root, seen = typer.main.get_command(app), 0
    for name, line in commands():
        command, words = root, shlex.split(re.sub(r"\$\([^)]*\)", "IMAGES", line.replace("...", "")))
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        if command is root:
            assert words[0] in ("COMMAND", "--version", "--help"), (name, line)
            continue
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        named = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)} - {"--help"}
        assert named <= options, (name, line, named - options)
        seen += 1
    assert seen > 60


def test_every_benchmark_that_is_named_exists():
    for name, text in TEXTS.items():
        for module in re.findall(r"python -m (benchmarks[.\w]+)", text):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), (name, module)


def test_the_chinese_page_has_no_command_of_its_own():
    english, chinese = (
        set("".join(re.findall(r"```bash\n(.*?)```", TEXTS[name], re.DOTALL)).splitlines())
        for name in ("README.md", "README.zh.md")
    )
    assert chinese and chinese <= english


def test_every_test_that_is_named_exists():
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    for name, text in TEXTS.items():
        assert set(re.findall(r"\btest_\w+\.py\b", text)) <= tests, name
