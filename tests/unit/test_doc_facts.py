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
SPEED = TEXTS["docs/speed.md"]
CRUDE, FULL, AUTO = (
    float(re.findall(rf"^\| {name} \| ([\d.]+) ", SPEED, re.MULTILINE)[-1])
    for name in ("monai:BasicUNetPlusPlus", "ours:openvino:full", "ours:openvino:auto")
)  # of the made-up CT, the last table with them
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
    (r"BasicUNetPlusPlus takes (\d+) s and", f"{CRUDE:.0f}", 1),
    (r"ours (\d+) s at full depth", f"{FULL:.0f}", 1),
    (r"and (\d+) s with `auto`", f"{AUTO:.0f}", 1),
    (r"Inference on CUDA is untested(; some trainings ran on a GPU\.)?", "; some trainings ran on a GPU.", 3),
]


def stated(pattern, texts):
    return {name: found for name, text in texts.items() if (found := re.findall(pattern, text))}


@pytest.mark.parametrize(("pattern", "value", "documents"), FACTS, ids=[pattern for pattern, *_ in FACTS])
def test_documents_agree_with_the_source(pattern, value, documents):
    found = stated(pattern, TEXTS)
    assert len(found) >= documents, f"moved or reworded: {found}"
    assert {one for all_of_them in found.values() for one in all_of_them} == {value}, found


def test_a_number_that_differs_is_found():
    pattern, value, _ = FACTS[1]
    (name, *_) = stated(pattern, TEXTS)
    changed = TEXTS | {name: TEXTS[name].replace(value, "0.0097")}
    assert {one for found in stated(pattern, changed).values() for one in found} == {value, "0.0097"}


@pytest.mark.parametrize(("task", "table"), [(CROPS, 0), (NUCLEI, -1)])
def test_seconds_of_a_task_are_those_of_the_speed_tables(task, table):
    for depth, row in task["depths"].items():
        rows = re.findall(rf"^\| ours:openvino:{depth} \| ([\d.]+) ", SPEED, re.MULTILINE)
        if depth == "auto":
            rows = rows[:1]
        assert float(rows[table]) == row["seconds, 2 CPU cores"]


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
