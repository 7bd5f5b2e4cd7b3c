"""A thin MONAI Label app for our bundles: no network access, same voxels as the command line.

Runs in its own environment (`make label`); only this package imports MONAI Label.
"""
