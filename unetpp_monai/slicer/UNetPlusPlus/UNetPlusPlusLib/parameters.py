"""The module's settings in the scene: one scripted module node, saved and loaded with it."""

from __future__ import annotations  # Slicer's Python may be 3.9

from collections.abc import Mapping
from typing import Any

import slicer

TAG = "UNetPlusPlus"  # of this module's only node in the scene
NODES = ("volume", "segmentation")  # settings that are nodes; the others are text


def _node(scene: Any) -> Any:
    node = scene.GetSingletonNode(TAG, "vtkMRMLScriptedModuleNode")
    if node is None:
        node = slicer.vtkMRMLScriptedModuleNode()
        node.SetSingletonTag(TAG)
        node.SetModuleName(TAG)
        node.SetName(TAG)
        node = scene.AddNode(node)
    return node


def write_settings(scene: Any, settings: Mapping[str, Any]) -> None:
    """Store settings in a scene.

    Args:
        scene: where.
        settings: nodes (or None) under the names in `NODES`, text under others.
    """
    node = _node(scene)
    for name, value in settings.items():
        if name in NODES:
            node.SetNodeReferenceID(name, value.GetID() if value is not None else None)
        else:
            node.SetParameter(name, value)


def read_settings(scene: Any) -> dict[str, Any]:
    """Read the settings in a scene.

    Args:
        scene: where.

    Returns:
        Nodes (or None) and text by name; empty if the scene keeps none.
    """
    node = scene.GetSingletonNode(TAG, "vtkMRMLScriptedModuleNode")
    if node is None:
        return {}
    texts = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    return {**texts, **{name: node.GetNodeReference(name) for name in NODES}}
