"""Images of a fold, which training with `--fold N` leaves out: `python -m benchmarks.fold N --dataset_dir DIR`.

One path a line, as in `unetpp segment $(python -m benchmarks.fold 0 --dataset_dir DIR) -o predictions`.
"""

import argparse

from monai.bundle import ConfigParser

from unetpp_monai.task import BASE, VALUES, find_task

TASK = "hippocampus"  # that is measured unless another is named


def main() -> None:
    """Print the paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fold", type=int)
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--task", default=TASK, help="folder of a task, or the name of one in configs/")
    options = parser.parse_args()
    for case in fold_cases(options.fold, options.dataset_dir, options.task):
        print(case["image"])


def fold_cases(fold: int, dataset_dir: str, task: str = TASK) -> list[dict[str, str]]:
    """Cases of a fold, "image" and "label" paths, as `train.json` divides them."""
    config = ConfigParser()
    folder = find_task(task)
    config.read_config([str(BASE / "train.json"), str(folder / VALUES)])
    config["dataset_dir"] = dataset_dir
    if listed := config["cases_file"]:
        config["cases_file"] = str(folder / listed)
    return list(config.get_parsed_content("folds")[fold])


if __name__ == "__main__":
    main()
