"""Faults that are known and open. Each list must shrink: a slice fails as soon as one of them is no longer there.

Where a fault is mended, take its line out; where sound files or mutators change, numbers mean other mutants:
`python -m hostile.fuzz --count 100 --list` prints the kinds that are left as they stand here.
"""

# kind -> format and number of a mutant that shows it
FUZZ = {
    "configs: AttributeError in segmenter.py:<listcomp>": ("configs", 62),
    "configs: KeyError in segmenter.py:<listcomp>": ("configs", 0),
    "configs: KeyError in segmenter.py:_drop_file_transforms": ("configs", 66),
    "configs: ModuleNotFoundError in segmenter.py:__init__": ("configs", 14),
    "configs: RuntimeError in segmenter.py:__call__": ("configs", 2),
    "configs: RuntimeError in segmenter.py:__init__": ("configs", 26),
    "configs: TypeError in inference/depth.py:windows_of": ("configs", 84),
    "configs: TypeError in segmenter.py:<listcomp>": ("configs", 42),
    "configs: a message that is not one line in bundle.py:read_bundle": ("configs", 3),
    "configs: files left behind in cwd/ran": ("configs", 32),
}
FUZZ_LATE: dict[str, tuple[str, int]] = {}  # that only the whole `make fuzz` shows, or that take their time
# kind -> whether every slice shows it
CRASH: dict[str, bool] = {}
LOAD: dict[str, bool] = {}
