"""Draw a slice view as 3D Slicer does, with its own classes (slicer-core) and without a screen.

`python tests/helpers/slicer_view.py VOLUME SEGMENTATION R,A,S OUT.png [LOW,HIGH]` puts a volume (.nii.gz) and
a segmentation (.seg.nrrd; "-": none) into a scene, draws the axial plane through a point in mm, and prints in JSON what
the segmentation is to Slicer. It runs in a process of its own, because slicer-core brings its own libraries.
"""

import json
import sys

import slicer
import vtk

SIZE = 640  # pixels of the square view
OPACITY = 0.5  # of what a segment covers; its outline is opaque


def read(scene, kind, path):
    """Read a file into a new node: kind is "ScalarVolume" or "Segmentation"."""
    storage = getattr(slicer, f"vtkMRML{'VolumeArchetype' if kind == 'ScalarVolume' else kind}StorageNode")()
    node = scene.AddNewNodeByClass(f"vtkMRML{kind}Node", kind)
    scene.AddNode(storage)
    storage.SetFileName(path)
    if not storage.ReadData(node):
        raise SystemExit(f"Slicer cannot read {path}")
    return node


def add_volume(scene, path, window):
    """Read a volume; show it in grey, the values of `window` (lowest, highest) from black to white."""
    colours = slicer.vtkMRMLColorTableNode()
    colours.SetTypeToGrey()
    scene.AddNode(colours)
    volume, display = read(scene, "ScalarVolume", path), slicer.vtkMRMLScalarVolumeDisplayNode()
    scene.AddNode(display)
    display.SetAndObserveColorNodeID(colours.GetID())
    volume.SetAndObserveDisplayNodeID(display.GetID())
    if window:
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(*window)
    return volume


def add_segmentation(scene, path):
    """Read a segmentation and make it visible; return what its segments are."""
    node = read(scene, "Segmentation", path)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetOpacity2DFill(OPACITY)
    segmentation, segments = node.GetSegmentation(), []
    for index in range(segmentation.GetNumberOfSegments()):
        segment, terms = segmentation.GetNthSegment(index), vtk.mutable("")
        segment.GetTag("TerminologyEntry", terms)
        colour = [round(255 * part) for part in segment.GetColor()]
        segments.append({"name": segment.GetName(), "colour": colour, "terms": str(terms)})
    return segments


def show(scene, application, volume, point, *, name="Red", orientation="Axial"):
    """A slice view's logic in a plane of the volume through a point (mm, RAS), the whole of it in sight."""
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(application)
    logic.SetMRMLScene(scene)
    view = logic.AddSliceNode(name)
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    view.SetDimensions(SIZE, SIZE, 1)
    view.SetOrientation(orientation)  # the patient's left is on the right
    view.RotateToVolumePlane(volume)
    logic.FitSliceToBackground()
    view.JumpSliceByOffsetting(*point)
    return logic


def draw(logic, application, path):
    """Write the view as a picture: the volume's reslice, and over it what Slicer draws segmentations with."""
    renderer, window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(SIZE, SIZE)
    window.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    image, actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
    image.SetInputConnection(logic.GetImageDataConnection())
    image.SetColorWindow(255)
    image.SetColorLevel(127.5)
    actor.SetMapper(image)
    actor.GetProperty().SetDisplayLocationToBackground()
    renderer.AddViewProp(actor)
    factory, group = (
        slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(),
        slicer.vtkMRMLDisplayableManagerGroup(),
    )
    factory.SetMRMLApplicationLogic(application)
    factory.RegisterDisplayableManager("vtkMRMLSegmentationsDisplayableManager2D")
    group.Initialize(factory, renderer)
    group.SetMRMLDisplayableNode(logic.GetSliceNode())
    window.Render()
    save(window, path)


def save(window, path):
    """Write what a window shows."""
    grab, writer = vtk.vtkWindowToImageFilter(), vtk.vtkPNGWriter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    writer.SetInputConnection(grab.GetOutputPort())
    writer.SetFileName(path)
    writer.Write()


def numbers(text):
    return [float(value) for value in text.split(",")]


def main(volume, segmentation, point, picture, window=""):
    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    shown = add_volume(scene, volume, window and numbers(window))
    segments = [] if segmentation == "-" else add_segmentation(scene, segmentation)
    draw(show(scene, application, shown, numbers(point)), application, picture)
    sys.stdout.write(json.dumps(segments) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
