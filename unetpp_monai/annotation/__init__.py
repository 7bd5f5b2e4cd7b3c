"""A thin MONAI Label app over our bundles: no network access, the same voxels as the command line.

Runs in an environment of its own (`make label`); only this room imports MONAI Label.
"""
