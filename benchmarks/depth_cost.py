"""What each depth of the default bundle costs on this machine: `python benchmarks/depth_cost.py [--runtime eager]`.

Depths take turns within one run, and ratios to full depth are printed: seconds alone say more about the machine.
"""

import argparse
import statistics
from pathlib import Path

import torch

from unetpp_monai import Segmenter, read_volume
from unetpp_monai.bundle import load_network

SAMPLE = Path(__file__).parents[1] / "unetpp_monai" / "sample" / "mni_hippocampus_right.nii.gz"


def main() -> None:
    """Segment the sample at every depth in turn, and print the median network time of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--mirror", type=int, nargs="*", default=[], help="axes to average mirrored passes over")
    options = parser.parse_args()
    segmenter = Segmenter.from_bundle("hippocampus", device=options.device, runtime=options.runtime)
    volume = read_volume(SAMPLE)
    depths = [*segmenter.depths, "auto"]
    seconds: dict[int | str, list[float]] = {depth: [] for depth in depths}
    for turn in range(options.rounds + 1):
        for depth in depths:
            result = segmenter(volume, depth=depth, mirror_axes=options.mirror)
            if turn > 0:  # the first turn warms up
                seconds[depth].append(result.seconds["network"])
    full = statistics.median(seconds[segmenter.full_depth])
    about = f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.rounds} rounds"
    print(f"{segmenter.device}, {result.runtime}, {about}")
    print("depth  parameters  seconds  relative time")
    bundle = segmenter.bundle
    network = load_network(bundle, bundle.parser(), torch.device("cpu"))
    for depth in depths:
        median = statistics.median(seconds[depth])
        needed = network if depth == "auto" else network.prune(depth)
        parameters = sum(parameter.numel() for parameter in needed.parameters())
        print(f"{depth:>5}  {parameters:10,d}  {median:7.3f}  {median / full:13.2f}")


if __name__ == "__main__":
    main()
