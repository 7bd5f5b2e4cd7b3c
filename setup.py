"""What pyproject.toml cannot say: packages that are found, and data folders of the checkout that become packages."""

from setuptools import find_namespace_packages, setup

DATA = {"unetpp_monai.default_bundle": "bundle", "unetpp_monai.tasks": "configs"}  # package -> folder
FOUND = find_namespace_packages(include=["unetpp_monai", "unetpp_monai.*"])

setup(packages=[*FOUND, *DATA], package_dir=DATA)
