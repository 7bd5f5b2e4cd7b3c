"""DICOM in and out: the only room, with pacs/, that knows its objects. Patient coordinates (LPS) become RAS here."""
