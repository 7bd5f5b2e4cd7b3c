"""Put the weights of both networks into one file: `python -m benchmarks.locator.join LOCATOR SEGMENTER -o MODEL`.

Strict loading of the bundle that is packed with it (`unetpp pack hippocampus_head`) shows whether both fit.
"""

import argparse
from pathlib import Path

import torch

from unetpp_monai.bundle.weights import LOCATE, SEGMENT


def main() -> None:
    """Join."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("locator", type=Path)
    parser.add_argument("segmenter", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    parts = {LOCATE: options.locator, SEGMENT: options.segmenter}
    states = {prefix: torch.load(path, map_location="cpu", weights_only=True) for prefix, path in parts.items()}
    joined = {f"{prefix}{key}": value for prefix, state in states.items() for key, value in state.items()}
    torch.save(joined, options.output)


if __name__ == "__main__":
    main()
