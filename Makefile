# Two commands: make reproduce, make test. Both install what they need into .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: setup lock reproduce crate publish test lint exported check store readme house site lab playground clean

NODE := $(patsubst %/package-lock.json,%,$(wildcard docs/web/package-lock.json examples/node/package-lock.json))
setup: .venv/installed $(NODE:%=%/node_modules/.installed)

# What the site's page try/ is tested with, and the example of a host. Without Node.js these tests are skipped.
%/node_modules/.installed: %/package-lock.json
	@(cd $* && npm ci --ignore-scripts --no-audit --no-fund --silent && touch node_modules/.installed) || echo "$*: npm ci did not work (Node.js brings npm): $(if $(findstring docs,$*),the page try/,the example of a host) is tested in part; nothing else needs it" >&2

# constraints.txt is a lock: each package with its version and hashes, so pip installs what was tested and nothing else.
# mamba-ssm is the oracle of the parity tests: its reference implementation runs without CUDA, its build is skipped. The
# build asks PyTorch, so it comes after the rest, from a lock of its own.
.venv/installed: settings.ini constraints.txt constraints-oracle.txt setup.py pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'mambamuse needs Python 3.11 or newer: make setup PYTHON=...')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r constraints.txt
	MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE $(BIN)/python -m pip install --quiet --require-hashes --no-deps --no-build-isolation -r constraints-oracle.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# Renews both locks after a change of settings.ini; what still fits keeps its version, unless: make lock UPGRADE=--upgrade
UPGRADE ?=
COMPILE = .lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" $(UPGRADE)

# mamba-ssm 2.3.2.post1 is the last that imports beside transformers 5.
lock:
	$(PYTHON) -m venv .lock
	.lock/bin/pip install --quiet uv==0.13.9
	$(COMPILE) --extra dev -o constraints.txt setup.py
	echo "mamba-ssm<=2.3.2.post1" | $(COMPILE) --no-deps -o constraints-oracle.txt -
	rm -r .lock

# Everything that it writes is in the run folder, runs/as_run-smoke.
reproduce: setup
	$(BIN)/mambamuse reproduce

# Style, then: the exported package equals its notebooks; the notebooks pass; the tests pass. Both two at a time, so one thread each.
test: lint exported
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/nbdev_test --n_workers 2 --timing
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff format --quiet --check nbs tests benchmarks docs || (echo "not formatted: .venv/bin/ruff format nbs tests benchmarks docs" && exit 1)
	$(BIN)/ruff check --quiet nbs tests benchmarks docs
	$(BIN)/mypy --no-error-summary

exported: setup
	rm -rf .venv/exported && cp -r mambamuse .venv/exported && $(BIN)/nbdev_export
	diff -r -x __pycache__ -x mini_nsynth .venv/exported mambamuse || (echo "the package was not in sync with nbs/; it is now" && exit 1)

# The fast lane: make check NB=nbs/use/levels.ipynb
check: exported
	@test -f "$(NB)" || (echo "name a notebook: make check NB=nbs/use/levels.ipynb" >&2 && exit 2)
	$(BIN)/ruff check --quiet $(NB)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/nbdev_test --path $(NB)

# After a new notebook, or a new import between packages: the picture of the house, and the way through it.
house: setup
	$(BIN)/python tests/house.py
	$(BIN)/nbdev_clean

# README.md is nbs/index.ipynb, executed, with its links seen from the top. If a cell fails, README.md stays as it was.
# The pages that it leads to are notebooks, executed in place.
README ?= README.md
define write_readme
cd nbs && ../$(BIN)/jupyter nbconvert --log-level ERROR --execute --to markdown --no-input --stdout index.ipynb > $(abspath $(README)).part || (rm $(abspath $(README)).part; exit 1)
sed -e 's#(\.\./#(#g' -e 's#(\([0-9a-z_/]*\.ipynb\))#(nbs/\1)#g' $(README).part | cat -s > $(README)
rm $(README).part
endef
# What a notebook stores: what a reader should see of a run, without what a program says to whoever waits.
define write_outputs
$(BIN)/jupyter nbconvert --log-level ERROR --execute --inplace $(1)
for notebook in $(1); do $(BIN)/nbdev_clean --fname $$notebook || exit 1; done
$(BIN)/python docs/stored.py $(1)
endef
define write_pages
$(call write_outputs,nbs/pages/*.ipynb)
endef

# A notebook, executed and stored as a reader sees it: make store NB=nbs/05_adain.ipynb
store: setup
	@test -f "$(NB)" || (echo "name a notebook: make store NB=nbs/05_adain.ipynb" >&2 && exit 2)
	$(call write_outputs,$(NB))

readme: setup
	$(write_readme)
	$(write_pages)

# What the repository shows of a run: its figures and tables are copied into figures/, and README.md quotes them.
# figures/ORIGINS.md says of each file there, and of each table in benchmarks/, which command made it, where and when.
RUN ?= runs/as_run-smoke
publish: setup
	@test -d $(RUN)/figures || (echo "$(RUN)/figures: there is nothing to publish; make reproduce first, or name a run: make publish RUN=..." >&2 && exit 2)
	$(BIN)/python benchmarks/origins.py publish $(RUN)
	$(write_readme)
	$(write_pages)

# The notebooks as they are stored, the package's docstrings, results and sounds, as a folder of pages, and one to try the network on.
SITE ?= _site
site: setup
	$(BIN)/python docs/build.py $(SITE)

# The run's RO-Crate, by the format's checker, which needs an environment of its own for a while.
crate:
	@test -f $(RUN)/ro-crate-metadata.json || (echo "$(RUN): no ro-crate-metadata.json; make reproduce first, or name a run: make crate RUN=..." >&2 && exit 2)
	$(PYTHON) -m venv .crate
	.crate/bin/pip install --quiet roc-validator==0.13.0 rocrate==0.16.0
	.crate/bin/python tests/crate.py $(RUN)
	rm -r .crate

# JupyterLab plays stored sounds only of notebooks that it trusts; from the repository's top, it finds the pictures.
lab: setup
	$(BIN)/jupyter trust nbs/*.ipynb nbs/*/*.ipynb > /dev/null
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/nbs/index.ipynb

playground: setup
	$(BIN)/voila nbs/playground.ipynb

clean:
	rm -rf .venv .lock _site docs/web/node_modules build dist *.egg-info
