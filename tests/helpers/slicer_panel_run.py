"""Run apart from the tests: the module's panel in real Qt (PySide6), in a scene of 3D Slicer's own classes.

`python tests/helpers/slicer_panel_run.py TASK IMAGE FOLDER EXECUTABLE [DEPTH]` chooses, presses Apply and Show 3D,
draws the panel beside Slicer's views as FOLDER/slicer_panel.png, and prints in the last line what the panel showed. It
needs no screen.
"""

import json
import os
import sys
from pathlib import Path

import slicer
import slicer_module_run
import slicer_qt
import slicer_view
import vtk
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPixmap
from PySide6.QtWidgets import QVBoxLayout, QWidget
from waiting import wait_for

PANEL = (470, 900)  # pixels
VIEWS = (("Axial", "Red", "#f34a33"), ("Coronal", "Green", "#6eb04b"), ("Sagittal", "Yellow", "#edd54c"))  # Slicer's
BAR = 4  # pixels of a view's colour


class Window:
    """The panel as Slicer holds it: in a column of its own."""

    def __init__(self, module, folder):
        self.application, module.qt = slicer_qt.prepare(folder)
        font = QFont("DejaVu Sans")
        font.setPixelSize(12)
        self.application.setFont(font)
        self.column = QWidget()
        layout = QVBoxLayout(self.column)
        self.widget = module.UNetPlusPlusWidget()
        self.widget.layout = slicer_qt.Wrapped(layout)
        self.widget.setup()
        self.column.resize(*PANEL)
        self.column.show()
        self.ui = self.widget.ui

    def wait(self, condition, what):
        wait_for(lambda: self.application.processEvents() or condition(), what, every=0.02)

    def state(self):
        ui = self.ui
        buttons = ("applyButton", "cancelButton", "show3dButton", "installButton", "apartButton", "downloadButton")
        return [name for name in buttons if getattr(ui, name).enabled]


def show_surfaces(application, view, path, size):
    """Write a 3-D view as a picture, by what Slicer draws segmentations with."""
    renderer, window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
    renderer.SetBackground(0.76, 0.76, 0.91)
    renderer.SetBackground2(0.46, 0.46, 0.75)  # Slicer's own, from bottom to top
    renderer.GradientBackgroundOn()
    window.SetOffScreenRendering(1)
    window.SetSize(*size)
    window.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(application)
    factory.RegisterDisplayableManager("vtkMRMLSegmentationsDisplayableManager3D")
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.Initialize(factory, renderer)
    group.SetMRMLDisplayableNode(view)
    window.Render()
    camera = renderer.GetActiveCamera()
    camera.SetViewUp(0, 0, 1)
    camera.SetPosition(*(at + by for at, by in zip(camera.GetFocalPoint(), (-0.6, 1, 0.4), strict=True)))
    renderer.ResetCamera()
    window.Render()
    slicer_view.save(window, path)


def compose(panel, views, path):
    """Put the panel beside two rows of views."""
    edge = panel.height() // 2
    whole = QPixmap(panel.width() + 2 * edge, panel.height())
    whole.fill(QColor("black"))
    painter = QPainter(whole)
    painter.drawPixmap(0, 0, panel)
    for index, (file, colour) in enumerate(views):
        left, top = panel.width() + edge * (index % 2), edge * (index // 2)
        picture = QPixmap(file).scaled(edge - 2, edge - 2, Qt.KeepAspectRatio, Qt.SmoothTransformation)
        painter.drawPixmap(left + 1, top + 1, picture)
        painter.fillRect(left + 1, top + 1, edge - 2, BAR, QColor(colour))
    painter.end()
    whole.save(str(path))


def segment(window, volume, task, depth):
    """Do as a user does; return what the panel said."""
    ui, seen = window.ui, {"before": window.state()}
    ui.volumeSelector.setCurrentNode(volume)
    ui.taskSelector.setCurrentText(task)
    window.wait(lambda: not window.widget.about.running, "what the bundle says")
    shown = [ui.depthSelector.itemText(index) for index in range(ui.depthSelector.count)]
    ui.depthSelector.setCurrentText(next(one for one in shown if one.split(" ")[0] == depth))
    ui.show3dButton.setChecked(True)
    ui.applyButton.click()
    seen |= {"about": ui.taskAbout.text, "depths": shown, "running": window.state()}
    window.wait(lambda: not window.widget.logic.running, "the end of the process")
    window.wait(lambda: not ui.cancelButton.enabled, "the panel's last look")
    model = ui.volumesTable.own.model()
    seen["rows"] = [[model.index(row, column).data() for column in range(2)] for row in range(model.rowCount())]
    return {**seen, "after": window.state(), "status": ui.statusLabel.text, "log": ui.logBox.plainText}


def install(wheel, folder):
    """Install a wheel into a separate environment, as a user does who says yes; the home folder is FOLDER."""
    os.environ["HOME"] = str(folder)
    module, shown = slicer_module_run.prepare()
    slicer.util.confirmOkCancelDisplay = lambda question: shown.append(question) or True
    window = Window(module, folder)
    ui = window.ui
    ui.packageEdit.text = wheel
    ui.apartButton.click()
    during = [window.state(), ui.statusLabel.text, ui.progressBar.maximum]
    window.wait(lambda: not window.widget.environment.running, "the environment")
    window.wait(lambda: not ui.cancelButton.enabled, "the panel's last look")
    return {
        **{"during": during, "after": [window.state(), ui.progressBar.maximum], "shown": shown},
        **{"log": ui.logBox.plainText, "executable": ui.executablePath.currentPath},
    }


def main(task, image, folder, executable, depth="full"):
    found = install(image, Path(folder)) if task == "install" else panel(task, image, Path(folder), executable, depth)
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def panel(task, image, folder, executable, depth):
    """Segment a volume, and draw what a user sees."""
    module, shown = slicer_module_run.prepare()
    scene, application = slicer.mrmlScene, slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    view = scene.AddNewNodeByClass("vtkMRMLViewNode")
    window = Window(module, folder)
    window.ui.executablePath.currentPath = executable
    window.widget.enter()
    volume = slicer_view.add_volume(scene, image, None)
    volume.SetName(Path(image).name.split(".")[0])
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    middle = [(low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True)]
    slices = [slicer_view.show(scene, application, volume, middle, name=name, orientation=o) for o, name, _ in VIEWS]
    seen = segment(window, volume, task, depth)
    segmentation = window.widget.logic.results.segmentation
    segmentation.GetDisplayNode().SetSliceIntersectionThickness(2)
    files = []
    centre = segmentation.GetSegmentCenterRAS(segmentation.GetSegmentation().GetNthSegmentID(0))
    for logic, (_, name, colour) in zip(slices, VIEWS, strict=True):
        logic.GetSliceNode().JumpSliceByOffsetting(*centre)
        files.append((str(folder / f".{name}.png"), colour))
        slicer_view.draw(logic, application, files[-1][0])
    files.insert(1, (str(folder / ".3d.png"), "#7f7fbf"))
    show_surfaces(application, view, files[1][0], (slicer_view.SIZE, slicer_view.SIZE))
    window.application.processEvents()
    compose(window.column.grab(), files, folder / "slicer_panel.png")
    for file, _ in files:
        Path(file).unlink()
    (folder / "settings.ini").unlink(missing_ok=True)
    for button in (window.ui.installButton, window.ui.apartButton):
        button.click()  # each asks, and is told no
    scene.RemoveNode(segmentation)
    window.ui.show3dButton.click()  # of what is gone
    window.widget.cleanup()
    return {**seen, "shown": shown}


if __name__ == "__main__":
    main(*sys.argv[1:])
