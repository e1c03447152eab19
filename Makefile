# Everything installs what it needs and does nothing for what is already there.
VARIANT ?= base
RELEASE ?= trixie
ARCH ?= amd64
# Tools that may be left out of the image when this network cannot reach their source.
ALLOW_MISSING ?=
VENV := .venv
PYTHON := $(VENV)/bin/python
HAKIM := $(VENV)/bin/hakim-actions

# What the build and the boot test run, by Debian package.
BUILD_PACKAGES := debootstrap debian-archive-keyring rsync gpg squashfs-tools tar xz-utils zstd \
	lxc dnsmasq-base iproute2 util-linux openssh-client uidmap
# Readers that packing is tested against, and what the tests start.
TEST_PACKAGES := busybox-static chromium curl docker.io docker-registry git jq \
	libarchive-tools skopeo zstd

.DEFAULT_GOAL := help
.PHONY: help setup-build build test e2e e2e-all lint format bench bench-build docs clean system-build system-test distrobuilder

help: ## Show this list.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.dev: requirements/dev.txt scripts/venv.sh
	scripts/venv.sh $(VENV) requirements/dev.txt
	touch $@

system-build:
	scripts/apt-install.sh "building and booting images" $(BUILD_PACKAGES)
	command -v npm >/dev/null || scripts/apt-install.sh "fetching tools" npm

system-test:
	scripts/apt-install.sh "the tests" $(TEST_PACKAGES)
	command -v npm >/dev/null || scripts/apt-install.sh "the tests" npm

distrobuilder:
	scripts/install-distrobuilder.sh

setup-build: $(VENV)/.dev system-build distrobuilder ## Install what building and booting images needs.

build: setup-build ## Build, verify and boot an image (VARIANT, RELEASE, ARCH).
	$(HAKIM) build --variant $(VARIANT) --release $(RELEASE) --arch $(ARCH) \
		--allow-missing "$(ALLOW_MISSING)"

test: $(VENV)/.dev system-test ## Run all tests that need no root and no image.
	$(PYTHON) -m pytest -m "not e2e"

e2e: setup-build system-test ## Build real images and boot them (root).
	$(PYTHON) -m pytest --timeout 1800 -m "e2e and not every_variant" tests/e2e

e2e-all: setup-build system-test ## Likewise, with every variant and the minimal example under act.
	$(PYTHON) -m pytest --timeout 1800 -m e2e tests/e2e tests/integration/test_act.py

lint: $(VENV)/.dev ## Check the style, types, layers, scripts and definitions.
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	git ls-files -z '*.sh' '.ci/run' | xargs -0 $(VENV)/bin/shellcheck
	git ls-files -z '*.sh' '.ci/run' | xargs -0 $(VENV)/bin/shfmt --diff
	$(HAKIM) lint
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" scripts/lint-workflows.sh

format: $(VENV)/.dev ## Bring the sources into their form.
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format
	git ls-files -z '*.sh' '.ci/run' | xargs -0 $(VENV)/bin/shfmt --write

docs: $(VENV)/.dev ## Write the reference pages that follow from the sources.
	for page in actions commands; do $(PYTHON) "scripts/$${page}_page.py" || exit; done

bench: $(VENV)/.dev ## Measure; every number is a ratio of two things in one run.
	for benchmark in $(filter-out benchmarks/build.py,$(wildcard benchmarks/*.py)); do \
		$(PYTHON) "$$benchmark" || exit; done

bench-build: setup-build ## Measure whole builds against plain distrobuilder (root, an hour or two).
	$(PYTHON) benchmarks/build.py --allow-missing "$(ALLOW_MISSING)"

clean: ## Remove what builds and tests leave behind; keeps the cache.
	rm -rf $(VENV) distrobuilder/out .pytest_cache .mypy_cache .ruff_cache
