# Every target that needs Python makes .venv first; `make help` lists them.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
SOURCES := operator trainer tests benchmarks

.PHONY: help setup demo test test-cluster mutants check docs fmt generate cluster-up cluster-down images e2e bench gpu bench-operator clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with every extra (about 6 GB: torch is the CUDA build; it runs on CPU too)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv || { echo "apt-get install python3-venv, then again"; exit 1; }
	@echo "Installing into .venv; the first time takes some minutes ..."
	@$(BIN)/pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[operator,trainer,lightgbm,comet,samples,dev]'
	@# The parity oracle, kronos-finance, brings a command of the same name: ours is written last.
	@$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --force-reinstall -e .
	@touch $@

demo: setup ## finetune both shipped models on real bars, tiny and short (minutes on 2 cores)
	$(BIN)/kronos data sample --out data
	$(BIN)/kronos run -f manifests/examples/model_a_4h.yaml -f manifests/examples/model_b_1d.yaml \
		--set tokenizer.init.scratch.size=tiny --set tokenizer.epochs=4 --set tokenizer.batchSize=32 \
		--set predictor.init.scratch.size=tiny --set predictor.epochs=3 --set predictor.batchSize=32 \
		--set tokenizer.learningRate=1e-3 --set predictor.learningRate=2e-3 \
		--set training.windowsPerEpoch=640 --set training.validationWindows=256 \
		--set resources.processesPerNode=2 --set evaluation.samples=40

test: setup ## run every test that needs no cluster
	@# Tests of one file share what they have trained or started. A process needs 1.5 GB.
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile -m "not cluster and not e2e"

test-cluster: setup ## run the tests against a real API server and an S3 server (builds their binaries the first time: Go, 10 minutes)
	hack/cluster/binaries etcd kube-apiserver kube-controller-manager kubectl helm helm-docs kubeconform versitygw
	$(BIN)/pytest -m cluster

mutants: setup ## change the code and list the changes that no test notices (an hour or two; make mutants TOPICS="plan windows" for some)
	$(BIN)/python hack/mutants $(TOPICS)

check: setup ## lint, types, import contracts, that generated files are current, and the documentation
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/kronos crd | diff manifests/crd.yaml - || { echo "manifests/crd.yaml is stale: make generate"; exit 1; }
	$(BIN)/python -m kronos_operator.reference | diff docs/model.md - || { echo "docs/model.md is stale: make generate"; exit 1; }
	$(BIN)/python -m kronos_operator.cli.reference | diff docs/cli.md - || { echo "docs/cli.md is stale: make generate"; exit 1; }
	diff constraints.txt <($(BIN)/pip freeze --exclude-editable) || { echo ".venv is not what constraints.txt says: make setup, or make generate"; exit 1; }
	$(MAKE) --no-print-directory docs

docs: setup ## build the documentation into site/, from docs/ and the code; any broken link or page is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

cluster-up: ## start a real Kubernetes on this host (kind where Docker runs); prints its kubeconfig
	@hack/cluster/up

cluster-down: ## stop it; data and caches stay
	@hack/cluster/down

images: setup ## build the operator's and the trainer's image and load them into the cluster
	hack/cluster/images operator trainer

e2e: setup ## helm install, train, kill, evict, suspend: the tests that need the cluster
	@# The first test that needs them waits until Kueue and the training operator are built.
	$(BIN)/pytest -m e2e --timeout=1200 tests/e2e

fmt: setup ## format the code
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

generate: setup ## rewrite the generated files: CRD, references of fields and commands, chart docs, install.yaml, constraints
	$(BIN)/kronos crd > manifests/crd.yaml.new && mv manifests/crd.yaml.new manifests/crd.yaml
	$(BIN)/python -m kronos_operator.reference > docs/model.md.new && mv docs/model.md.new docs/model.md
	$(BIN)/python -m kronos_operator.cli.reference > docs/cli.md.new && mv docs/cli.md.new docs/cli.md
	cp manifests/crd.yaml charts/kronos-operator/files/crd.yaml
	hack/cluster/binaries helm helm-docs
	PATH="$${KRONOS_CACHE:-$$HOME/.cache/kronos-operator}/bin:$$PATH" helm-docs -c charts -s file
	PATH="$${KRONOS_CACHE:-$$HOME/.cache/kronos-operator}/bin:$$PATH" charts/install-manifest > manifests/install.yaml.new && mv manifests/install.yaml.new manifests/install.yaml
	$(BIN)/pip freeze --exclude-editable > constraints.txt.new && mv constraints.txt.new constraints.txt

bench: setup ## measure speed and memory side by side with upstream's classes
	$(BIN)/python -m benchmarks

gpu: setup ## check the trainer on this machine's GPU and measure it beside upstream (8 minutes; without a GPU, tiny on the CPU)
	$(BIN)/python -m benchmarks.gpu

bench-operator: setup ## measure the operator under 1,000 and 5,000 models, and JobSet beside it (builds a control plane the first time)
	hack/cluster/binaries etcd kube-apiserver kube-controller-manager kube-scheduler kubectl helm kwok jobset
	$(BIN)/python -m benchmarks.cluster

clean: ## remove .venv and caches; data/ and outputs/ stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .mutants site
