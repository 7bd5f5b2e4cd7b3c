"""What `benchmarks.speed` compares: each contender in a process of its own, from a NIfTI file to a label map on disk.

`python -m benchmarks.contenders NAME BUNDLE WEIGHTS IMAGE OUT` loads, runs once to warm up, says "ready", and then runs
once for each line on stdin, answering with one JSON line.
NAME is ours:RUNTIME:DEPTH[:PRECISION], monai:NETWORK or nnunet.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Case = Callable[[], dict[str, Any]]  # one run; seconds in the network, and what else there is to say


def ours(options: list[str], bundle: Path, weights: Path, image: Path, out: Path) -> Case:
    """Our Segmenter."""
    from unetpp_monai import Segmenter, read_volume, write_nifti
    from unetpp_monai.io import is_picture, write_label_picture

    runtime, depth, *precision = options
    segmenter = Segmenter.from_bundle(
        bundle,
        weights=weights,
        device="cpu",
        runtime=runtime,
        depth=depth,
        precision=precision[0] if precision else "float32",
    )

    def run() -> dict[str, Any]:
        result = segmenter(read_volume(image))
        if is_picture(image):
            write_label_picture(result.labels, out.with_name("labels.png"), colours=[(255, 255, 255)])
        else:
            write_nifti(result.labels, out, like=image)
        return {"network": result.seconds["network"], "windows": result.windows}

    return run


def monai(options: list[str], bundle: Path, weights: Path, image: Path, out: Path) -> Case:
    """MONAI's own network with random weights in MONAI's own transforms and sliding window, all with our numbers."""
    from monai import transforms
    from monai.inferers import SlidingWindowInferer
    from monai.networks.nets import BasicUNet, BasicUNetPlusPlus

    from unetpp_monai import read_bundle

    parser = read_bundle(bundle, weights=weights).parser()
    value = parser.get_parsed_content
    features = list(value("features"))
    features += [features[-1] * 2] * (5 - len(features)) + [features[0]]  # these networks always have five levels
    network = {"BasicUNetPlusPlus": BasicUNetPlusPlus, "BasicUNet": BasicUNet}[options[0]](
        value("spatial_dims"), value("in_channels"), value("out_channels"), features=features
    ).eval()
    sliding = SlidingWindowInferer(value("roi_size"), value("sw_batch_size"), value("overlap"), mode="gaussian")
    before = transforms.Compose(
        [
            transforms.LoadImaged("image"),
            transforms.EnsureChannelFirstd("image"),
            transforms.Orientationd("image", "RAS", labels=None),
            transforms.Spacingd("image", value("pixdim"), mode="bilinear"),
            transforms.NormalizeIntensityd("image", channel_wise=True),
        ]
    )
    after = transforms.Compose(
        [
            transforms.Invertd("pred", before, "image", nearest_interp=False),
            transforms.AsDiscreted("pred", argmax=True),
            transforms.SaveImaged(
                "pred",
                output_dir=out.parent,
                output_postfix="monai",
                separate_folder=False,
                resample=False,
                print_log=False,
            ),
        ]
    )
    seconds = 0.0

    def timed(windows: torch.Tensor) -> torch.Tensor:
        nonlocal seconds
        start = time.perf_counter()
        logits = network(windows)
        seconds += time.perf_counter() - start
        return logits[0] if isinstance(logits, list) else logits

    def run() -> dict[str, Any]:
        nonlocal seconds
        seconds = 0.0
        with torch.inference_mode():
            data = before({"image": image})
            data["pred"] = sliding(data["image"][None], timed)[0]
            after(data)
        return {"network": seconds}

    return run


def nnunet(options: list[str], bundle: Path, weights: Path, image: Path, out: Path) -> Case:
    """nnU-Net's predictor, preprocessing and export with a PlainConvUNet of equal widths and random weights."""
    import numpy as np
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    config = json.loads((bundle / "configs/inference.json").read_text())
    plans, dataset = _plans(config)
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        config["in_channels"],
        config["out_channels"],
        deep_supervision=False,
    ).eval()
    predictor = nnUNetPredictor(
        tile_step_size=1 - config["overlap"], use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.manual_initialization(network, manager, configuration, [network.state_dict()], dataset, "none", None)
    seconds = 0.0
    forward = network.forward

    def timed(windows: torch.Tensor) -> torch.Tensor:
        nonlocal seconds
        start = time.perf_counter()
        logits = forward(windows)
        seconds += time.perf_counter() - start
        return logits

    network.forward = timed
    reader = SimpleITKIO()

    def run() -> dict[str, Any]:
        nonlocal seconds
        seconds = 0.0
        array, properties = reader.read_images([str(image)])
        labels = predictor.predict_single_npy_array(array, properties, None, None, False)
        reader.write_seg(np.asarray(labels), str(out), properties)
        return {"network": seconds}

    return run


def _plans(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What nnU-Net writes when it plans a data set, with our widths, window and spacing."""
    features = config["features"]
    levels = len(features)
    resampling = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    name = "resample_data_or_seg_to_shape"
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": levels,
            "features_per_stage": features,
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * levels,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (levels - 1),
            "n_conv_per_stage": [2] * levels,
            "n_conv_per_stage_decoder": [2] * (levels - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {
        "data_identifier": "none",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": config["roi_size"][::-1],
        "median_image_size_in_voxels": config["roi_size"][::-1],
        "spacing": config["pixdim"][::-1],
        "normalization_schemes": ["ZScoreNormalization"] * config["in_channels"],
        "use_mask_for_norm": [False] * config["in_channels"],
        "resampling_fn_data": name,
        "resampling_fn_data_kwargs": {**resampling, "order": 1},  # linear, as ours; its default is cubic
        "resampling_fn_seg": name,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": name,
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": architecture,
        "batch_dice": True,
    }
    plans = {
        "dataset_name": "none",
        "plans_name": "none",
        "original_median_spacing_after_transp": config["pixdim"][::-1],
        "original_median_shape_after_transp": config["roi_size"][::-1],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "none",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(c): {} for c in range(config["in_channels"])},
    }
    labels = {"background": 0, **{f"label {index}": index for index in range(1, config["out_channels"])}}
    return plans, {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz"}


def main() -> None:
    """Serve runs."""
    name, *paths = sys.argv[1:]
    kind, *options = name.split(":")
    start = time.perf_counter()
    run = {"ours": ours, "monai": monai, "nnunet": nnunet}[kind](options, *map(Path, paths))
    run()
    print(json.dumps({"ready": time.perf_counter() - start}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        result = run()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        print(json.dumps({"seconds": time.perf_counter() - start, "peak_gib": peak, **result}), flush=True)


if __name__ == "__main__":
    main()
