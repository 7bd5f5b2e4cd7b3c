"""Read and write volumes; the only package that knows file formats."""

from .case_list import listed_folds
from .cases import case_name, find_cases, labelled_cases, list_cases
from .channels import SeriesChoice, channel_files, read_case, series_names
from .nifti import write_nifti
from .picture import write_label_picture
from .reader import ImageFormat, SourceImage, files_of_image, image_format, is_picture, read_image, read_volume

__all__ = [
    "ImageFormat",
    "SeriesChoice",
    "SourceImage",
    "case_name",
    "channel_files",
    "files_of_image",
    "find_cases",
    "image_format",
    "is_picture",
    "labelled_cases",
    "list_cases",
    "listed_folds",
    "read_case",
    "read_image",
    "read_volume",
    "series_names",
    "write_label_picture",
    "write_nifti",
]
