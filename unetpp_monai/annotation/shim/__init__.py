"""This folder is on PYTHONPATH of every MONAI Label process; Python imports `sitecustomize` automatically."""
