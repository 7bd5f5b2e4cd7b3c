"""What the name of a node, such as "x_1_2", says."""

import torch


def depth_of(name: str) -> int:
    """Return the smallest depth that needs a node.

    Args:
        name: of the node; x_0_0 belongs to depth 1.

    Returns:
        The node's anti-diagonal, at least 1.

    Example:
        >>> depth_of("x_1_2")
        3
    """
    return max(sum(map(int, name.split("_")[1:])), 1)


def evaluated_depth(grid: dict[str, torch.Tensor]) -> int:
    """Return how deep a grid of features was evaluated.

    Args:
        grid: features by node name; the image may be among them.

    Returns:
        Column of the last x_0_j; 0: none.

    Example:
        >>> evaluated_depth({"image": torch.zeros(1), "x_0_0": torch.zeros(1), "x_0_1": torch.zeros(1)})
        1
    """
    return max([int(name[len("x_0_") :]) for name in grid if name.startswith("x_0_")], default=0)
