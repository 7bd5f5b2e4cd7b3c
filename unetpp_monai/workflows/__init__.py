"""Whole stories above the segmenter: a case to files, a cohort to figures, a bundle to an archive."""
