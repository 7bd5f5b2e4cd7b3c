"""Real Qt (PySide6) in the manner of Slicer's PythonQt: properties are attributes, signals are named by text.

Widgets that only Slicer and CTK have are thin stand-ins of the same look. Needs no screen: QT_QPA_PLATFORM=offscreen.
"""
# ruff: noqa: N802, N815 - named as what they stand in for

import os
import sys
import traceback
import types
from pathlib import Path
from xml.etree import ElementTree

import slicer
from PySide6.QtCore import Property, QBuffer, QMetaObject, QObject, QSettings, QTimer, Signal
from PySide6.QtGui import QIcon, QPainter, QStandardItem, QStandardItemModel
from PySide6.QtUiTools import QUiLoader
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QStyle,
    QStyleOption,
    QTableView,
    QToolButton,
    QWidget,
)
from shiboken6 import isValid

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # before there is an application

HEADER = 26  # pixels of a collapsible section's title


class Wrapped:
    """A Qt object as PythonQt shows it; what the object lacks is an error."""

    def __init__(self, own):
        self.__dict__["own"] = own

    def __getattr__(self, name):
        if self.own.metaObject().indexOfProperty(name) >= 0:
            return self.own.property(name)
        found = getattr(self.own, name)
        return lambda *values: wrapped(found(*map(unwrapped, values)))

    def __setattr__(self, name, value):
        if self.own.metaObject().indexOfProperty(name) < 0 or not self.own.setProperty(name, value):
            raise AttributeError(f"a {type(self.own).__name__} has no {name} that can be {value!r}")

    def connect(self, signal, slot):
        known = QMetaObject.normalizedSignature(signal).data().decode()
        if "vtk" not in signal and self.own.metaObject().indexOfSignal(known) < 0:
            raise ValueError(f"a {type(self.own).__name__} has no signal {signal}")
        getattr(self.own, signal.split("(")[0]).connect(slot)


def wrapped(value):
    return Wrapped(value) if isinstance(value, QObject) else value


def unwrapped(value):
    return value.own if isinstance(value, Wrapped) else value


def value(kind, default, changed=""):
    """A Qt property that only keeps what it is given."""
    name = f"_{id(default)}_{kind.__name__}_{changed}"

    def keep(self, new):
        setattr(self, name, new)
        if changed:
            getattr(self, changed).emit(new)

    return Property(kind, lambda self: getattr(self, name, default), keep)


class ctkCollapsibleButton(QWidget):  # noqa: N801
    """A section with a title."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._text, self._collapsed = "", False
        self.setContentsMargins(0, HEADER, 0, 0)

    def paintEvent(self, _event):
        painter, option = QPainter(self), QStyleOption()
        option.initFrom(self)
        option.rect = self.rect().adjusted(0, 0, 0, HEADER - self.height())
        painter.fillRect(option.rect, self.palette().button().color().darker(108))
        painter.drawText(option.rect.adjusted(24, 0, 0, 0), 0x81, self._text)  # left, in the middle of the height
        option.rect = option.rect.adjusted(6, 6, 18 - self.width() + 2, -6)
        arrow = QStyle.PrimitiveElement
        arrow = arrow.PE_IndicatorArrowRight if self._collapsed else arrow.PE_IndicatorArrowDown
        self.style().drawPrimitive(arrow, option, painter, self)

    def set_text(self, text):
        self._text = text

    def set_collapsed(self, collapsed):
        self._collapsed = collapsed
        self.setMaximumHeight(HEADER if collapsed else 1 << 20)

    text = Property(str, lambda self: self._text, set_text)
    collapsed = Property(bool, lambda self: self._collapsed, set_collapsed)


class ctkPathLineEdit(QWidget):  # noqa: N801
    """A path, and a button that would open a dialogue."""

    currentPathChanged = Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.edit, button = QLineEdit(), QToolButton()
        button.setText("...")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.edit)
        layout.addWidget(button)
        self.edit.textChanged.connect(self.currentPathChanged)

    currentPath = Property(str, lambda self: self.edit.text(), lambda self, text: self.edit.setText(text))
    filters = value(int, 0)


class qMRMLNodeComboBox(QComboBox):  # noqa: N801
    """The scene's nodes of some classes; the first of them is chosen if it may not be none."""

    currentNodeChanged = Signal(object)
    nodeTypes, noneEnabled = value(list, []), value(bool, False)
    addEnabled = removeEnabled = renameEnabled = showChildNodeTypes = value(bool, True)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.nodes = []
        self.currentIndexChanged.connect(lambda _index: self.currentNodeChanged.emit(self.currentNode()))

    def setMRMLScene(self, scene):
        self.scene = scene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
            scene.AddObserver(event, lambda *_: self.fill() if isValid(self) else None)
        self.fill()

    def fill(self):
        chosen = self.currentNode()
        nodes = [None] if self.noneEnabled else []
        for kind in self.nodeTypes:
            for index in range(self.scene.GetNumberOfNodesByClass(kind)):
                node = self.scene.GetNthNodeByClass(index, kind)
                nodes += [node] if node.GetClassName() == kind else []
        if nodes == self.nodes:
            return
        self.blockSignals(True)
        self.nodes = nodes
        self.clear()
        self.addItems(["None" if node is None else node.GetName() for node in nodes])
        self.blockSignals(False)
        self.setCurrentNode(chosen)

    def currentNode(self):
        return self.nodes[self.currentIndex()] if 0 <= self.currentIndex() < len(self.nodes) else None

    def setCurrentNode(self, node):
        if node in self.nodes:
            self.setCurrentIndex(self.nodes.index(node))
        self.currentNodeChanged.emit(self.currentNode())


class qMRMLTableView(QTableView):  # noqa: N801
    """A table node's columns."""

    def setMRMLScene(self, scene):
        pass

    def setMRMLTableNode(self, node):
        table = node.GetTable()
        model = QStandardItemModel(table.GetNumberOfRows(), table.GetNumberOfColumns(), self)
        for column in range(table.GetNumberOfColumns()):
            model.setHorizontalHeaderItem(column, QStandardItem(table.GetColumnName(column)))
            for row in range(table.GetNumberOfRows()):
                model.setItem(row, column, QStandardItem(table.GetValue(row, column).ToString()))
        self.setModel(model)


class qMRMLWidget(QWidget):  # noqa: N801
    """A panel that gives its scene to widgets, as its file says."""

    scene_users = ()

    def setMRMLScene(self, scene):
        for widget in self.scene_users:
            widget.setMRMLScene(scene)


def load_ui(path):
    """What slicer.util.loadUI does."""
    loader = QUiLoader()
    for kind in (ctkCollapsibleButton, ctkPathLineEdit, qMRMLNodeComboBox, qMRMLTableView, qMRMLWidget):
        loader.registerCustomWidget(kind)
    tree = ElementTree.parse(path).getroot()
    users = [connection.findtext("receiver") for connection in tree.findall("connections/connection")]
    tree.remove(tree.find("connections"))  # PySide knows no signal with a vtkMRMLScene*
    for parent in [*tree.iter("widget")]:
        for entry in parent.findall("property[@name='filters']"):
            parent.remove(entry)  # an enumeration of CTK
    buffer = QBuffer()
    buffer.setData(ElementTree.tostring(tree))
    panel = loader.load(buffer)
    panel.scene_users = [panel.findChild(QWidget, name) for name in users]
    return Wrapped(panel)


def children(panel):
    """What slicer.util.childWidgetVariables does."""
    found = {widget.objectName(): widget for widget in panel.own.findChildren(QWidget) if widget.objectName()}
    return types.SimpleNamespace(**{name: Wrapped(widget) for name, widget in found.items()})


def made(kind):
    return lambda *values: Wrapped(kind(*values))


def fail(*error):
    """End at once: Qt would go on after an error in a slot."""
    traceback.print_exception(*error)
    sys.stderr.flush()
    os._exit(1)


def prepare(folder):
    """Make the application and what the module imports as qt. Settings go to a file in a folder.

    To be called after the stand-ins are in place and before a panel is made.
    """
    sys.excepthook = fail
    application = QApplication.instance() or QApplication(["Slicer"])
    settings = str(Path(folder) / "settings.ini")
    kinds = (QTimer, QComboBox, QCheckBox, QPushButton, QLabel, QLineEdit)
    qt = types.SimpleNamespace(**{kind.__name__: made(kind) for kind in kinds}, QIcon=QIcon)
    qt.QSettings = lambda: QSettings(settings, QSettings.Format.IniFormat)
    slicer.util.loadUI, slicer.util.childWidgetVariables = load_ui, children
    slicer.qMRMLNodeComboBox = made(qMRMLNodeComboBox)
    return application, qt
