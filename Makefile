# `make repro` builds the dataset version of params.yaml, `make test` proves the code; both do all of their own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip
UV_VERSION := 0.13.9
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
# make 3.81, which macOS brings, looks for programs on its own PATH and would not find what is installed here.
ifneq (,$(filter 3.%,$(MAKE_VERSION)))
$(error make $(MAKE_VERSION) is too old, GNU make 4 is needed. Remedy: brew install make, then gmake in place of make \
  (macOS); apt-get install make (Debian); dnf install make (Fedora))
endif

# An index of packages that has torch for processors: with it, nothing for GPUs is installed. It is remembered.
REMEMBERED := $(shell cat $(VENV)/cpu-index 2>/dev/null)
CPU_INDEX ?= $(REMEMBERED)
ifneq ($(CPU_INDEX),$(REMEMBERED))
.PHONY: $(READY)
endif
# What an installation with the demo needs, measured; GPU packages are 4 GB of it.
DISK_GB := $(if $(CPU_INDEX),4,8)
MEMORY_GB := 3

# Nothing that a user has set elsewhere may leak into the environment.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE
# fastText is compiled here: flags of another project, such as -march=native, would change its results in the last digits.
unexport CFLAGS CXXFLAGS CPPFLAGS

.PHONY: help setup repro test test-fast test-hosts lint check claims docs lock clean status bench-extract bench-catalog bench-catalog-buckets bench-download bench-score bench-score-gpu bench-scale bench-scaling bench-release bench-release-tables bench-filter bench-group bench-group-memory bench-lists bench-removals bench-translate bench-caption fuzz
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 20

setup: $(READY)  ## make .venv out of requirements.lock; CPU_INDEX=ADDRESS installs nothing for GPUs

$(READY): requirements.lock pyproject.toml Makefile
	@$(if $(UNCHECKED),,sh setup/check_machine.sh "$(PYTHON)" $(VENV) $(DISK_GB) $(MEMORY_GB))
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(if $(CPU_INDEX),,$(if $(REMEMBERED),@$(UV) uninstall --quiet --python $(BIN)/python torch torchvision))
	$(if $(CPU_INDEX),@$(BIN)/python setup/for_processors.py requirements.lock $(VENV))
	$(UV) sync --quiet --python $(BIN)/python $(if $(CPU_INDEX),$(VENV)/processors.lock,requirements.lock)
	@printf '%s' '$(CPU_INDEX)' > $(VENV)/cpu-index
	$(if $(CPU_INDEX),@$(UV) install --quiet --python $(BIN)/python --no-deps --default-index '$(CPU_INDEX)' -r $(VENV)/torch.txt)
	@$(UV) install --quiet --python $(BIN)/python --no-deps --editable .
	$(if $(CPU_INDEX),@$(BIN)/python setup/for_processors.py --installed)
	@touch $@

repro: $(READY)  ## run what has changed, from crawl to report; RECIPE=laion-5b lays a recipe over params.yaml, ON=demo the demo over that
	@$(if $(RECIPE)$(ON),laion-dask params $(addprefix --recipe ,$(RECIPE) $(ON)) --write)
	@laion-dask params > /dev/null  # what no stage reads must be refused too
	@dvc repro
	@laion-dask status

# Types are checked beside the tests, which need minutes more; what mypy says stands whole after them. Whatever failed has
# its log in .laion_dask/tests: pytest.xml with the output of each failed test, mypy.txt.
LOGS := .laion_dask/tests
# One process more than two cores: many tests wait, for a lease that ends or for a program.
PYTEST := python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --junitxml $(LOGS)/pytest.xml

test: $(READY) lint  ## lint, types and all tests
	@mkdir -p $(LOGS)
	@mypy > $(LOGS)/mypy.txt 2>&1 & types=$$!; \
		$(PYTEST); tests=$$?; wait $$types; typed=$$?; \
		cat $(LOGS)/mypy.txt; \
		test $$tests -eq 0 && test $$typed -eq 0

test-fast: $(READY)  ## what a change needs while one works: no browser, no cluster, nothing that takes more than a second
	@mkdir -p $(LOGS)
	@$(PYTEST) -m 'not slow and not cluster and not browser'

# Its folder is its own: beside other runs, pytest would remove what is three runs old.
test-hosts: $(READY)  ## whole runs on hosts made of namespaces: power loss, partitions, Slurm; Linux, as root
	@mkdir -p $(LOGS)
	@place=$$(mktemp -d) && trap 'rm -rf "$$place"' EXIT && trap 'exit 130' INT && trap 'exit 143' TERM HUP && \
		TMPDIR=$$place python -m pytest --hosts --junitxml $(LOGS)/hosts.xml tests/hosts

lint: $(READY)
	@ruff check .
	@ruff format --check .

check: $(READY) lint  ## lint and types
	@mypy

claims: $(READY)  ## run every claim of ARTIFACT.md, and print which hold; claim-3 runs the third alone
	@python -m experiments.artifact all

claim-%: $(READY)
	@python -m experiments.artifact $*

docs: $(READY)  ## the documentation as a site in site/, with search and reference; needs no network
	@NO_MKDOCS_2_WARNING=1 mkdocs build --strict  # not --quiet, which keeps --strict from counting warnings

lock: $(READY)  ## resolve requirements.lock anew: hashes, no addresses
	@$(UV) compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes --no-header \
		--output-file requirements.lock pyproject.toml

status: $(READY)  ## print the funnel of the current version
	@laion-dask status

bench-extract: $(READY)  ## extraction side by side with cc2dataset, warcio and the limit of reading
	@python -m benchmarks.extract.bench

bench-lists: $(READY)  ## a list of 20 million hashes compiled and searched
	@python -m benchmarks.lists.bench

bench-catalog: $(READY)  ## 10 million pairs through the catalog, beside a bare COPY
	@python -m benchmarks.catalog.bench

bench-catalog-buckets: $(READY)  ## 10,000 WATs by bucket, merged, beside opening every file for every bucket
	@python -m benchmarks.catalog.bench_buckets

bench-download: $(READY)  ## download side by side with img2dataset, from a server on loopback
	@python -m benchmarks.download.bench

bench-score: $(READY)  ## scoring beside the pure forward pass, the decoding rate and clip-retrieval
	@python -m benchmarks.score.bench

bench-score-gpu: $(READY)  ## scoring on a GPU beside its forward pass and the decoding rate
	@python -m benchmarks.score.bench_gpu

bench-scale: $(READY)  ## the demo crawl at 3,000, 30,000 and 100,000 pages through all stages: hours
	@python -m benchmarks.scale.bench

bench-scaling: $(READY)  ## the demo's stages on one worker and on two; parts that wait on pools of 1 to 32
	@python -m benchmarks.scaling.bench

bench-release: $(READY)  ## two versions of 10 million pairs compared, verified, and their Merkle root
	@python -m benchmarks.release.bench

bench-release-tables: $(READY)  ## the files of a million and of 4 million pairs written by ranges of uids, beside all at once
	@python -m benchmarks.release.bench_tables

bench-filter: $(READY)  ## 10 million scored pairs through the filter, beside a bare reading of the same columns
	@python -m benchmarks.filter.bench

bench-group: $(READY)  ## near-duplicates among a million images, beside all with all
	@python -m benchmarks.group.bench

bench-group-memory: $(READY)  ## memory and processor time of each step of group, at one and three million images
	@python -m benchmarks.group.bench_memory

bench-translate: $(READY)  ## translations beside CTranslate2 alone, transformers and EasyNMT's way
	@python -m benchmarks.translate.bench

bench-caption: $(READY)  ## captions beside transformers' generate as Data-Juicer and LAION's worker call it
	@python -m benchmarks.caption.bench

bench-removals: $(READY)  ## 100,000 removals from 10 million pairs, beside a bare reading
	@python -m benchmarks.removals.bench

fuzz: $(READY)  ## ten minutes of damaged WATs through both readers
	@PYTHONPATH=tests python -m made.crawls.fuzz_wat --minutes 10 --out fuzz-findings.txt

clean:  ## remove work in progress and the embedded database; dataset versions stay in DVC's cache
	@rm -rf .laion_dask
