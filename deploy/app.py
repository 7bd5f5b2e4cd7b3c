"""UNet++ as a MONAI Deploy application: a folder of DICOM in, a verified SEG and SR of each study out."""

import json
import logging
from pathlib import Path
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from segment_operator import SegmentOperator

from unetpp_monai import Segmenter, read_bundle

# beside the modality, which the bundle states: narrow it where a study has several such series; see docs/deploy.md
CONDITIONS: dict[str, Any] = {}


class UNetPlusPlusApp(Application):
    """Load DICOM, select one series of each study, segment it."""

    def compose(self) -> None:
        """Chain the operators; options are the SDK's: `-i` images, `-o` results, `-m` another bundle."""
        context = Application.init_app_context(self.argv)
        bundle = read_bundle(context.args.get("model"))
        conditions = {"Modality": f"^{bundle.input.modality}$", **CONDITIONS}
        rules = json.dumps({"selections": [{"name": bundle.name, "conditions": conditions}]})
        images, results = Path(context.input_path), Path(context.output_path)
        once = CountCondition(self, 1)
        loader = DICOMDataLoaderOperator(self, once, input_folder=images, name="loader")
        selector = DICOMSeriesSelectorOperator(self, rules=rules, all_matched=True, name="selector")
        segment = SegmentOperator(self, segmenter=Segmenter(bundle), images=images, results=results, name="segment")
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, segment, {("study_selected_series_list", "study_selected_series_list")})


if __name__ == "__main__":
    logging.info("research only: not a medical device")
    UNetPlusPlusApp().run()
