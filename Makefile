# Two commands on a fresh machine: `make demo` and `make test`. Everything lives in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# not --quiet: a slow line would leave it without a word for minutes
PIP = $(BIN)/pip install --constraint constraints.txt

# What each suite leaves out; pytest alone runs everything.
QUICK = not (slow or long or server or browser or data or gpu)
USUAL = not (server or browser or long or (slow and data))
WORKERS ?= 2
# a worker that is killed ends the run: xdist would wait for the tests of its file for ever
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: docs demo quick test check test-all lint usual rest coverage label bundle
.NOTPARALLEL:

demo: $(VENV)/installed
	$(BIN)/unetpp demo -o demo_output

# two minutes on two cores: the usual thing between two edits
quick: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -m "$(QUICK)"

# ten minutes: before a commit
test: $(VENV)/installed-dev check

check: lint usual

# everything: what `test` runs, then what it leaves out; `make test test-all` runs nothing twice
test-all: test rest

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32  # calls that Windows lacks: see posix_only.py

usual:
	$(PYTEST) -m "$(USUAL)"

rest:
	$(PYTEST) -m "not ($(USUAL))"

# which lines no test runs, in subprocesses too; takes twice the time
coverage: $(VENV)/installed-dev
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

# bundle/ is what `pack` makes of the default task, less the package's copy: change unetpp_monai/base or configs/ instead
bundle: $(VENV)/installed
	rm -rf bundle
	$(BIN)/python -c "from unetpp_monai.bundle.writing import *; from unetpp_monai.task import *; write_bundle(check_task(DEFAULT_TASK), Path('bundle'))"

# torch comes first and alone: pinned, so that nothing after it asks for another build
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo '1 of 2: PyTorch, 200 MB, a minute or two'
	$(PIP) torch
	@echo '2 of 2: MONAI, OpenVINO and the rest, a minute or two'
	$(PIP) --editable '.[train,fast]'
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable '.[dev]'
	touch $@

# the manual as a site in build/docs; every warning is an error
docs: $(VENV)/installed-dev
	$(PIP) --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

LABEL ?= .venv-label
LABEL_PIP = $(LABEL)/bin/pip install --constraint constraints-label.txt

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

HOSTILE = PYTHONPATH=tests $(BIN)/python -W ignore -m hostile

.PHONY: fuzz crash load

fuzz: $(VENV)/installed-dev  # damaged files of every format, about half an hour; FLAGS="--count 50 --formats nifti"
	$(HOSTILE).fuzz $(FLAGS)

crash: $(VENV)/installed-dev  # `unetpp segment` killed, out of space, its output removed; as root also a full disk
	$(HOSTILE).crash $(FLAGS)

load: $(VENV)/installed-dev  # the listener killed among poisoned studies; needs Orthanc
	$(HOSTILE).load $(FLAGS)
