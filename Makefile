# Everything is set up on the first call; needs Python 3.11 to 3.13 (with venv) and make.
PYTHON ?= python3
BIN := .venv/bin
TFLITE_PYTHON ?= python3.11
TFLITE_BIN := .venv-tflite-runtime/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint typecheck check-floors pytest bench soak schema bundles test-tflite-runtime test-arm64 lock clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-19s %s\n", $$1, $$2}'

setup: ## make .venv with everything, versions locked with hashes (PYTHON=python3.12 for another interpreter)
	@command -v "$(PYTHON)" >/dev/null || { echo "make: $(PYTHON) not found; install Python 3.11 to 3.13, or say PYTHON=/path/to/python" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("make: Python %d.%d is not supported, 3.11 to 3.13 is needed; say PYTHON=/path/to/python" % v)'
	@stamp="$$("$(PYTHON)" -VV | cksum) $$(cat requirements.txt pyproject.toml device/pyproject.toml | cksum)"; \
	if [ "$$(cat .venv/.stamp 2>/dev/null)" != "$$stamp" ]; then \
		echo "Setting up .venv: 3.3 GB, some four minutes"; \
		"$(PYTHON)" -m venv --clear .venv \
		&& $(BIN)/python tools/pip_progress.py install --require-hashes -r requirements.txt \
		&& echo "  the two distributions of this clone" \
		&& $(BIN)/pip install --quiet --no-deps --no-build-isolation -e ./device -e . \
		&& echo "$$stamp" > .venv/.stamp; \
	fi

demo: setup ## every stage on generated drawings, a minute and a half on two idle cores; writes demo/report.html
	$(BIN)/edge-oneshot demo --out demo

test: setup lint typecheck check-floors pytest ## everything that must hold

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: setup
	$(BIN)/mypy

check-floors: setup
	$(BIN)/lint-imports

# the tests of a file share what they train and export, so that files go to the workers whole
pytest: setup
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# of the shipped nets, with what LiteRT answers here
bundles: setup
	$(BIN)/python -m tests.tflite_runtime.make_bundles build/bundles

# without the tests that no runtime and no numpy touches: those of the gallery, and of the door, which needs its extras
test-tflite-runtime: setup bundles ## bundles and the device's tests in tflite-runtime 2.14, which needs Python 3.11 and numpy 1
	@if ! "$(TFLITE_PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then \
		echo "make: test-tflite-runtime is skipped: $(TFLITE_PYTHON) is no Python 3.11; say TFLITE_PYTHON=/path/to/python3.11" >&2; \
		exit 0; \
	fi; \
	set -e; \
	stamp="$$("$(TFLITE_PYTHON)" -VV | cksum) $$(cat requirements-tflite-runtime.txt device/pyproject.toml | cksum)"; \
	if [ "$$(cat .venv-tflite-runtime/.stamp 2>/dev/null)" != "$$stamp" ]; then \
		echo "Setting up .venv-tflite-runtime (340 MB)"; \
		"$(TFLITE_PYTHON)" -m venv --clear .venv-tflite-runtime; \
		$(TFLITE_BIN)/python tools/pip_progress.py install --require-hashes -r requirements-tflite-runtime.txt; \
		$(TFLITE_BIN)/pip install --quiet --no-deps --no-build-isolation -e ./device; \
		echo "$$stamp" > .venv-tflite-runtime/.stamp; \
	fi; \
	$(TFLITE_BIN)/pytest tests/tflite_runtime tests/device \
		--ignore=tests/device/door --ignore=tests/device/gallery --ignore=tests/device/presentation

test-arm64: setup bundles ## the device's tests on emulated Raspberry Pis 4 and 5, ten minutes; needs root and qemu-user-static
	$(BIN)/python tests/arm64/stage.py build/bundles build/arm64

bench: setup ## latency on this machine, side by side (pytest-benchmark)
	$(BIN)/python -m pytest benchmarks

soak: setup ## long campaigns, whole: how often bounds hold, what a gallery lives through; JSON in benchmarks/results
	$(BIN)/python -m tests.campaigns.coverage --out benchmarks/results/coverage.json
	$(BIN)/python -m tests.campaigns.coverage --tasks --out benchmarks/results/coverage-tasks.json
	$(BIN)/python -m tests.campaigns.hostile_bundles --out benchmarks/results/hostile-bundles.json
	$(BIN)/python -m tests.campaigns.tampering --out benchmarks/results/tampering.json
	$(BIN)/python -m tests.campaigns.durable kills --out benchmarks/results/durability-kills.json
	$(BIN)/python -m tests.campaigns.durable disks --out benchmarks/results/durability-disks.json
	$(BIN)/python -m tests.campaigns.durable faults --out benchmarks/results/durability-faults.json
	$(BIN)/python -m tests.campaigns.durable contention --out benchmarks/results/durability-contention.json
	$(BIN)/python -m tests.campaigns.liveness --people 60 --seed 17 --out benchmarks/results/liveness.json
	$(BIN)/edge-oneshot export --pretrained base --out build/base.oneshot
	$(BIN)/python benchmarks/day.py build/base.oneshot --out benchmarks/results/day.json
	$(BIN)/edge-oneshot export --pretrained faces --out build/faces.oneshot
	$(BIN)/python -m tests.campaigns.door_faults build/faces.oneshot --out benchmarks/results/door-faults.json
	@if [ -f "$$EDGE_ONESHOT_TEST_DATA/lfw/lfw-half.zip" ]; then \
		$(BIN)/python -m tests.campaigns.door build/faces.oneshot --data "$$EDGE_ONESHOT_TEST_DATA/lfw/lfw-half.zip" \
			--out benchmarks/results/door-approaches.json \
		&& $(BIN)/python -m tests.campaigns.door_latency build/faces.oneshot \
			--data "$$EDGE_ONESHOT_TEST_DATA/lfw/lfw-half.zip" --out benchmarks/results/door-latency.json \
		&& $(BIN)/python -m tests.campaigns.door_memory build/faces.oneshot --out benchmarks/results/door-memory.json; \
	else \
		echo "make: the approaches to a door are skipped: set EDGE_ONESHOT_TEST_DATA to the folder with lfw/lfw-half.zip" >&2; \
	fi

schema: setup ## renew what is made of the code: docs/reference/bundle.schema.json, docs/reference/door.md
	$(BIN)/python -m tools.door_reference > docs/reference/door.md
	$(BIN)/python -c "import json; from edge_oneshot_device.bundle.schema import manifest_schema; \
	  print(json.dumps(manifest_schema(), indent=1))" > docs/reference/bundle.schema.json

lock: setup ## renew both requirements files: the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --generate-hashes \
		--no-emit-package edge-oneshot-device --no-emit-index-url --no-header --group dev --all-extras \
		pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --python-platform linux --generate-hashes \
		--no-emit-package edge-oneshot-device --no-emit-index-url --no-header --extra tflite-runtime --extra onnx \
		--group pyproject.toml:tflite-runtime device/pyproject.toml -o requirements-tflite-runtime.txt

clean: ## remove what the other targets made, but no run and no bundle
	rm -rf .venv .venv-tflite-runtime .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks build dist demo
