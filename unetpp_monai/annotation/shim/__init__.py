"""This folder goes on PYTHONPATH of every MONAI Label process; Python imports its `sitecustomize` by itself."""
