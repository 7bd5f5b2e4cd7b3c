# Two commands on a fresh machine: `make demo` and `make test`. Everything lives in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/pip install --quiet --constraint constraints.txt

.PHONY: demo test check label bundle

demo: $(VENV)/installed
	$(BIN)/unetpp demo -o demo_output

test: $(VENV)/installed-dev check

check:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term-missing:skip-covered

# bundle/ is what `pack` makes of the hippocampus, less the package's copy: change unetpp_monai/base or configs/ instead
bundle: $(VENV)/installed
	rm -rf bundle
	$(BIN)/python -c "from unetpp_monai.workflows.pack import *; write_bundle(check_task(DEFAULT_TASK), Path('bundle'))"

# torch comes first and alone: pinned, so that nothing after it asks for another build
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[bundle,preview]'
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable '.[dev]'
	touch $@

LABEL ?= .venv-label
LABEL_PIP = $(LABEL)/bin/pip install --quiet --constraint constraints-label.txt

label: $(LABEL)/installed

# MONAI Label in an environment of its own: its metadata asks for pydicom 2 and much that the server never imports
$(LABEL)/installed: pyproject.toml constraints-label.txt
	$(PYTHON) -m venv $(LABEL)
	$(LABEL_PIP) torch
	grep -vE '^(#|torch=|monailabel=|pydicom-seg=)' constraints-label.txt > $(LABEL)/needs.txt
	$(LABEL_PIP) --requirement $(LABEL)/needs.txt 'dicomweb-client[gcp]'
	$(LABEL_PIP) --no-deps monailabel pydicom-seg
	$(LABEL_PIP) --editable '.[dicom]'
	touch $@
