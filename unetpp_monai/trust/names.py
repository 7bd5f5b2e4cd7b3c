"""Names that configs of untrusted bundles may use. A list for `trust`; nothing is imported here.

Excluded on purpose: what runs other code (`monai.bundle`, `torch.hub`, `torch.load`), looks a name up
(`TorchVisiond`, `CuCIMd`, `PatchInferer`), unpickles (`PersistentDataset`), or opens a connection (`MLFlowHandler`).
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# MONAI's transforms, also in their dictionary forms: `Resize`, `Resized`, `ResizeD`, `ResizeDict`
TRANSFORMS = _words("""
    Activations AdjustContrast Affine AsChannelLast AsDiscrete BorderPad BoundingRect CastToType CenterScaleCrop
    CenterSpatialCrop ClassesToIndices ClipIntensityPercentiles ConvertToMultiChannelBasedOnBratsClasses CropForeground
    DetectEnvelope DivisiblePad EnsureChannelFirst EnsureType FgBgToIndices FillHoles Flip ForegroundMask
    GaussianSharpen GaussianSmooth GibbsNoise GridDistortion HistogramNormalize Identity IntensityStats Invert
    KeepLargestConnectedComponent KSpaceSpikeNoise LabelFilter LabelToContour LabelToMask Lambda MapLabelValue
    MaskIntensity MeanEnsemble MedianSmooth NormalizeIntensity Orientation Pad ProbNMS Rand2DElastic Rand3DElastic
    RandAdjustContrast RandAffine RandAxisFlip RandBiasField RandCoarseDropout RandCropByLabelClasses
    RandCropByPosNegLabel RandFlip RandGaussianNoise RandGaussianSharpen RandGaussianSmooth RandGibbsNoise
    RandGridDistortion RandHistogramShift RandKSpaceSpikeNoise RandLambda RandRicianNoise RandRotate RandRotate90
    RandScaleCrop RandScaleIntensity RandScaleIntensityFixedMean RandShiftIntensity RandSimulateLowResolution
    RandSpatialCrop RandSpatialCropSamples RandStdShiftIntensity RandWeightedCrop RandZoom RemoveRepeatedChannel
    RemoveSmallObjects RepeatChannel Resize ResizeWithPadOrCrop Rotate Rotate90 ScaleIntensity
    ScaleIntensityRange ScaleIntensityRangePercentiles ShiftIntensity SobelGradients Spacing SpatialCrop SpatialPad
    SpatialResample SplitDim SqueezeDim StdShiftIntensity ThresholdIntensity ToDevice ToNumpy ToTensor Transpose
    VoteEnsemble Zoom
""")
FORMS = ("", "d", "D", "Dict")
# components of MONAI by package: `monai.losses.DiceLoss`, or short `DiceLoss`
COMPONENTS = {
    "monai.transforms": """
        Compose OneOf RandomOrder SomeOf CopyItemsd ConcatItemsd DeleteItemsd SelectItemsd FlattenSubKeysd LoadImaged
        SaveImaged
    """,
    "monai.data": "CacheDataset DataLoader Dataset DistributedSampler SmartCacheDataset ThreadDataLoader",
    "monai.networks.nets": """
        AttentionUnet BasicUNet BasicUNetPlusPlus DynUNet SegResNet SegResNetDS SwinUNETR UNet UNETR VNet
    """,
    "monai.losses": """
        DeepSupervisionLoss DiceCELoss DiceFocalLoss DiceLoss FocalLoss GeneralizedDiceFocalLoss GeneralizedDiceLoss
        MaskedDiceLoss TverskyLoss
    """,
    "monai.inferers": "SimpleInferer SliceInferer SlidingWindowInferer SlidingWindowInfererAdapt",
    "monai.optimizers": "Novograd WarmupCosineSchedule",
    "monai.metrics": "DiceMetric GeneralizedDiceScore HausdorffDistanceMetric MeanIoU SurfaceDiceMetric",
    "monai.engines": "SupervisedEvaluator SupervisedTrainer",
    "monai.handlers": """
        CheckpointLoader CheckpointSaver ConfusionMatrix EarlyStopHandler HausdorffDistance LrScheduleHandler MeanDice
        MeanIoUHandler MetricLogger MetricsSaver StatsHandler SurfaceDistance TensorBoardImageHandler
        TensorBoardStatsHandler ValidationHandler
    """,
}
FULL = _words("""
    torch.nn.BCEWithLogitsLoss torch.nn.CrossEntropyLoss torch.nn.Identity torch.nn.MSELoss
    torch.nn.parallel.DistributedDataParallel torch.optim.Adam torch.optim.AdamW torch.optim.SGD
    torch.optim.lr_scheduler.CosineAnnealingLR torch.optim.lr_scheduler.ExponentialLR
    torch.optim.lr_scheduler.LambdaLR torch.optim.lr_scheduler.LinearLR torch.optim.lr_scheduler.MultiStepLR
    torch.optim.lr_scheduler.PolynomialLR torch.optim.lr_scheduler.ReduceLROnPlateau
    torch.optim.lr_scheduler.SequentialLR torch.optim.lr_scheduler.StepLR
    unetpp_monai.inference.AutocastInferer unetpp_monai.inference.DepthInferer unetpp_monai.inference.HeadsInferer
    unetpp_monai.inference.LocatedNetwork unetpp_monai.inference.Locator
    unetpp_monai.inference.patches.RandForegroundCropd unetpp_monai.inference.transforms.InvertLabelsd
    unetpp_monai.inference.transforms.LargestComponentd unetpp_monai.inference.transforms.NormalizeChannelsd
    unetpp_monai.inference.transforms.PlanarLabelBoundaryd
    unetpp_monai.inference.transforms.Spacingd unetpp_monai.networks.UNetPlusPlus unetpp_monai.training.CaseSampler
    unetpp_monai.training.CheckLabelsd unetpp_monai.training.CheckedDataset unetpp_monai.training.FiniteLoss
    unetpp_monai.training.EndOfPreparation
    unetpp_monai.training.HeadsDice unetpp_monai.training.History unetpp_monai.training.ProgressSaver
    unetpp_monai.training.PromptedBatch unetpp_monai.training.RunIdentity
    unetpp_monai.training.WarnOfCasesd unetpp_monai.training.InitialWeights
""")
# these read or write files, or call others: not allowed in the segmentation
APART = _words("""
    CheckpointLoader CheckpointSaver MetricsSaver SupervisedEvaluator SupervisedTrainer TensorBoardImageHandler
    TensorBoardStatsHandler LoadImaged SaveImaged
""")
CLASSES = {  # given by name: argument -> allowed names
    "reader": ("ITKReader", "NibabelReader", "PILReader", "PydicomReader", "NrrdReader"),
    "writer": ("ITKWriter", "NibabelWriter", "PILWriter", "unetpp_monai.io.monai_writer.VolumeWriter"),
}
READERS = ("unetpp_monai.io.monai_reader.VolumeReader",)  # allowed in expressions

CALLABLE = _words("""
    glob.glob ignite.engine.Events math.ceil math.floor math.log math.log2 math.prod math.sqrt
    monai.data.decollate_batch monai.data.list_data_collate monai.data.load_decathlon_datalist
    monai.data.pad_list_data_collate monai.data.partition_dataset monai.data.utils.partition_dataset
    monai.handlers.from_engine monai.handlers.utils.from_engine monai.utils.set_determinism
    os.path.abspath os.path.basename os.path.dirname os.path.exists os.path.getmtime os.path.isdir os.path.isfile
    os.path.join os.path.splitext
    torch.argmax torch.backends.cudnn.set_flags torch.cat torch.clamp torch.cuda.device_count torch.cuda.is_available
    torch.cuda.set_device torch.device torch.distributed.destroy_process_group torch.distributed.get_rank
    torch.distributed.get_world_size torch.distributed.init_process_group torch.distributed.is_initialized
    torch.manual_seed torch.sigmoid torch.softmax torch.stack torch.tensor
    torch.utils.data.RandomSampler torch.where
    unetpp_monai.inference.located unetpp_monai.io.case_name unetpp_monai.io.find_cases unetpp_monai.io.labelled_cases
    unetpp_monai.io.listed_folds unetpp_monai.task.check_run
    unetpp_monai.training.require_foreground unetpp_monai.training.weights_digest
    unetpp_monai.training.newest_progress unetpp_monai.training.require_cases
    unetpp_monai.training.some_of
""")
VALUES = _words("""
    ignite.engine.Events.COMPLETED ignite.engine.Events.EPOCH_COMPLETED ignite.engine.Events.EPOCH_STARTED
    ignite.engine.Events.ITERATION_COMPLETED ignite.engine.Events.STARTED
    math.inf math.pi numpy.float32 numpy.float64 numpy.int16 numpy.int32 numpy.int64 numpy.uint16 numpy.uint8 numpy.inf
    os.sep torch.bfloat16 torch.bool torch.float torch.float16 torch.float32 torch.float64 torch.int16 torch.int32
    torch.int64 torch.int8 torch.long torch.uint8
""")
BUILTINS = _words("""
    abs all any bool dict enumerate float int isinstance len list max min range reversed round set sorted str sum tuple
    zip
""")
# attributes and methods of tensors, networks, engines, texts and dictionaries
MEMBERS = _words("""
    argmax attach batch best_metric cpu data detach device dtype endswith epoch float get iteration item items keys long
    lower mean meta metrics output parameters run set_trainer shape split squeeze startswith state state_dict strip sum
    to type unsqueeze upper values _handler _key_metric_checkpoint
""")
KEYWORDS = {  # the only allowed arguments of some calls: name -> arguments
    "torch.distributed.init_process_group": ("backend",),
    "torch.backends.cudnn.set_flags": ("_enabled", "_benchmark", "_deterministic"),
    "monai.utils.set_determinism": ("seed",),
}
ENVIRONMENT = ("LOCAL_RANK", "RANK", "WORLD_SIZE")  # allowed variables of `os.environ`


def components() -> dict[str, str]:
    """Map every allowed `_target_`, short or full, to its last part."""
    families = {package: names.split() for package, names in COMPONENTS.items()}
    families["monai.transforms"] += [name + form for name in TRANSFORMS for form in FORMS]
    found = {full: full.rpartition(".")[2] for full in FULL}
    for package, names in families.items():
        for name in names:
            found |= {name: name, f"{package}.{name}": name}
    return found
