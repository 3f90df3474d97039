# Two commands for a newcomer: `make course` and `make test`. The rest is listed by `make help`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
EXTRAS := course,sandbox,dev
# The oldest Python that all versions of the lock take, and the tools that make its lists.
OLDEST := 3.11.5
LAB    ?=
UV     := uv==0.13.8
PIP    := pip==26.3
SBOM   := cyclonedx-bom==7.5.0
comma  := ,

.DEFAULT_GOAL := help
.PHONY: help install course test test-all quick lint static together alone long lab bench site crosscheck lock hashed hashes pins sbom dist release kind clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "qwenkit needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) tools/install.py '$(VENV)' '$(EXTRAS)'
	@touch $@

install: $(STAMP) ## the environment alone

course: $(STAMP) ## every notebook against the embedded sandbox; report under runs/
	@$(BIN)/qwenkit run -p notebooks/params/sandbox.yaml

test: lint static together alone ## lint, types, imports, unit, sandbox, browser, notebooks, the whole course

test-all: test long ## make test, then what is long: whole tables of tests, other models, targets and storage, kills, fuzz, faults of the API, hostile hubs
	@failed=0; for tool in other_targets storage_kinds kills fuzz api_faults evil_hub; do \
	  echo "tools/$$tool.py"; $(BIN)/python tools/$$tool.py || failed=1; done; exit $$failed

quick: lint ## the contributor's lane: lint, types, imports and unit tests
	$(BIN)/python -m pytest tests/unit -m "not long" -q -n 2

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

static: $(STAMP)
	$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb notebooks/zh/*.ipynb
	$(BIN)/python tools/sync_zh.py --check

# In the order of the folders: whole notebooks come first, and no long file is left for the end.
together: $(STAMP)
	$(BIN)/python -m pytest tests -m "not alone and not long" -n 4 --dist loadfile --no-loadscope-reorder

alone: $(STAMP)
	$(BIN)/python -m pytest tests -m "alone and not long"

# pytest answers 5 where no test is chosen: there may be no long test that needs the machine to itself.
long: $(STAMP)
	$(BIN)/python -m pytest tests -m "long and not alone" -n 3 --dist loadfile --no-loadscope-reorder || test $$? -eq 5
	$(BIN)/python -m pytest tests -m "long and alone" || test $$? -eq 5

lab: $(STAMP) ## JupyterLab on the course, with a sandbox; behind a hub: LAB="--no-browser --ip 0.0.0.0 --port 8888"
	@$(BIN)/qwenkit lab $(LAB)

kind: $(STAMP) ## the course on a cluster that it brings up: kind with Knative, a real vLLM on its CPUs
	tools/kind/up.sh
	$(BIN)/qwenkit doctor --context kind-qwenkit -p notebooks/params/kind.yaml
	$(BIN)/qwenkit run --context kind-qwenkit -p notebooks/params/kind.yaml --yes

screenshots: $(STAMP) ## take the pictures of README anew, in a real JupyterLab
	$(BIN)/python tools/screenshots.py

bench: $(STAMP) ## every benchmark, each printing JSON
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/simulate.py
	$(BIN)/python benchmarks/panel.py
	$(BIN)/python benchmarks/transfer.py --json
	$(BIN)/python benchmarks/streams.py
	$(BIN)/python benchmarks/load.py

site: $(STAMP) ## the course as a static site, with its simulator in the browser: build/site
	@$(BIN)/python tools/site/build.py

crosscheck: $(STAMP) ## record real transformers and real vLLM anew, and compare the sandbox's engine
	@test -x "$(TOOLS_PYTHON)" && test -x "$(QWENKIT_VLLM)" || { echo "crosscheck needs TOOLS_PYTHON, a Python with\
	  tools/requirements.txt, and QWENKIT_VLLM, the executable of a vLLM for this processor. Now they are\
	  '$(TOOLS_PYTHON)' and '$(QWENKIT_VLLM)'."; exit 2; }
	$(TOOLS_PYTHON) tools/record_reference.py transformers
	$(TOOLS_PYTHON) tools/record_reference.py transformers --architecture qwen3
	$(TOOLS_PYTHON) tools/record_reference.py shapes
	$(dir $(QWENKIT_VLLM))python tools/record_reference.py vllm
	$(BIN)/python -m pytest tests/unit/sandbox/test_engine_core.py \
	  tests/sandbox/engine/test_tiny_model.py

# --no-build-isolation: what an sdist is built with is then the hashed setuptools, too.
hashed: ## install .venv with every file checked by its hash
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r constraints-build.txt
	$(BIN)/python -m pip install --quiet --require-hashes --no-build-isolation -r constraints-hashed.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(STAMP)

lock: ## resolve the newest versions that pyproject.toml allows into constraints.txt, and their hashes
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check '.[$(EXTRAS)]'
	{ echo "# The one lock. Made by: make lock"; build/lock/bin/python -m pip freeze --exclude qwenkit; } > constraints.txt
	$(MAKE) --no-print-directory hashes

# setuptools is pinned in pyproject.toml, pip here: the two that install all others.
hashes:
	rm -rf build/hashes && $(PYTHON) -m venv build/hashes
	build/hashes/bin/python -m pip install --quiet --disable-pip-version-check $(UV)
	{ echo "# The lock with the hashes of all published files. Made by: make lock"; \
	  build/hashes/bin/uv pip compile --quiet --generate-hashes --universal --python-version $(OLDEST) --no-annotate \
	  --no-header --no-emit-index-url $(foreach extra,$(subst $(comma), ,$(EXTRAS)),--extra $(extra)) -c constraints.txt pyproject.toml; \
	  } > build/hashes/lock
	{ echo "# What the lock is installed with. Made by: make lock"; \
	  { echo $(PIP); sed -n 's/^requires = \["\(setuptools==[^"]*\)"\]$$/\1/p' pyproject.toml; } | \
	  build/hashes/bin/uv pip compile --quiet --generate-hashes --universal --python-version $(OLDEST) --no-annotate \
	  --no-header --no-emit-index-url -; } > build/hashes/build
	mv build/hashes/lock constraints-hashed.txt && mv build/hashes/build constraints-build.txt

pins: $(STAMP) ## images, actions and packages that are not pinned by digest, and why
	@$(BIN)/python tools/pins.py

sbom: ## a CycloneDX list of all packages of the lock: build/sbom.json
	rm -rf build/sbom && $(PYTHON) -m venv build/sbom
	build/sbom/bin/python -m pip install --quiet --disable-pip-version-check $(SBOM)
	build/sbom/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o build/sbom.json constraints-hashed.txt

DIST := dist/qwenkit-*.whl dist/qwenkit-*.tar.gz dist/sbom.json dist/SHA256SUMS

dist: ## wheel, sdist and SHA256SUMS of the last commit, in dist/; the same commit gives the same bytes
	rm -rf build/dist $(DIST) && $(PYTHON) -m venv build/dist
	build/dist/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints-build.txt
	build/dist/bin/python tools/dist.py dist $(MORE)

release: sbom ## make dist, with the list of packages beside it
	@$(MAKE) --no-print-directory dist MORE=build/sbom.json

SECOND := [0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]-[0-9][0-9][0-9][0-9][0-9][0-9]

clean: ## remove the environment and past runs; what else is in their folders stays
	test ! -e '$(STAMP)' || rm -rf '$(VENV)'
	test ! -d runs || find runs -mindepth 1 -maxdepth 1 \( -name '.qwenkit-*' -o -type d \
	  \( -name '$(SECOND)' -o -name '$(SECOND)-[0-9]' -o -name '$(SECOND)-[0-9][0-9]' \) \) -exec rm -rf {} +
	rm -rf $(DIST) build/lock build/hashes build/dist build/site build/site-cache build/sbom build/sbom.json build/lib build/bdist.* qwenkit.egg-info
	for folder in runs build dist; do test ! -d $$folder || rmdir $$folder || true; done
