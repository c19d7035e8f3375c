# `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash

VERSION := $(shell sed -n 's/^  "version": "\(.*\)",$$/\1/p' package.json)
ESBUILD := node_modules/.bin/esbuild --log-level=warning --platform=node --target=node20

# Tests must not contact the real EC2 link-local addresses: outside the lab, the SDK never requests an instance's
# credentials.
export AWS_EC2_METADATA_DISABLED := true

.PHONY: help build check demo test readme unit integration e2e e2e-firewall soak bench test-matrix sim clean

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

node_modules: package.json package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	@touch node_modules

build: bin/metadataproxy ## Type-check and bundle lib/ into bin/metadataproxy

# The AWS SDK code that lib/ uses, as CommonJS without import(), because it is evaluated from a string, where Node supports
# no import(). gzip -n omits the time, so the build is reproducible.
build/sdk.gz: node_modules lib/credentials/aws/sdk.ts
	@mkdir -p build
	set -o pipefail; $(ESBUILD) lib/credentials/aws/sdk.ts --bundle --minify --format=cjs --main-fields=module,main --legal-comments=none \
	  --supported:dynamic-import=false | gzip -9n >$@

# CommonJS, because Node takes a file without an extension for CommonJS, wherever it is copied to.
bin/metadataproxy: build/sdk.gz tsconfig.json $(shell find lib -name '*.ts')
	node_modules/.bin/tsc
	$(ESBUILD) lib/main.ts --bundle --minify --format=cjs --conditions=packed --loader:.gz=binary --legal-comments=none \
	  --banner:js='#!/usr/bin/env node' --define:METADATAPROXY_VERSION='"$(VERSION)"' --outfile=$@
	chmod 755 $@

check: node_modules ## Type-check only, tests included
	node_modules/.bin/tsc -p test

demo: build ## Show the main job with embedded defaults (ONCE=1 exits after printing)
	@node test/demo.mjs $(if $(ONCE),--once)

# Each test file is bundled with the code of lib/ that it tests.
build/test: bin/metadataproxy test/tsconfig.json $(shell find test -name '*.ts')
	node_modules/.bin/tsc -p test
	rm -rf build/test
	$(ESBUILD) $$(find test/unit test/integration test/e2e -name '*.test.ts' -o -name '*.soak.ts') --bundle --splitting \
	  --format=esm --packages=external --out-extension:.js=.mjs --sourcemap=inline \
	  --define:METADATAPROXY_VERSION='"$(VERSION)"' --outbase=test --outdir=build/test
	@touch build/test

# A real receiver for the tests: etsy's statsd, without optional dependencies and install scripts.
build/tools/node_modules/statsd/package.json:
	npm install --prefix build/tools --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error statsd@0.9.0

TEST := node --enable-source-maps --test --test-reporter=spec

test: build/test build/tools/node_modules/statsd/package.json ## Install, build, run the unit and integration tests
	$(TEST) --test-concurrency=4 $$(find build/test/unit build/test/integration -name '*.test.mjs')

unit: build/test ## Run only the unit tests
	$(TEST) --test-concurrency=4 $$(find build/test/unit -name '*.test.mjs')

integration: build/test build/tools/node_modules/statsd/package.json ## Run only the integration tests
	$(TEST) --test-concurrency=4 $$(find build/test/integration -name '*.test.mjs')

readme: build/test ## Regenerate README's table of settings
	UPDATE_README=1 $(TEST) build/test/unit/readme.test.mjs

e2e: build/test ## Run the tests against a real Docker Engine (root, Debian; installs what they need)
	test/e2e/install
	$(TEST) --test-concurrency=1 $$(find build/test/e2e -name '*.test.mjs')

e2e-firewall: build/test ## Try each event with each firewall manager on booted hosts, and print the table (root, Debian)
	test/e2e/install
	E2E_FULL=1 $(TEST) build/test/e2e/firewall-managers.test.mjs

# Includes the churn on a real Docker Engine: needs root and Debian, like `make e2e`.
soak: build/test ## Run the long tests of the guarantees: load, STS failures, memory, churn, and the short ones at full length
	SOAK=1 $(TEST) --test-concurrency=1 \
	  $$(find build/test/integration -name '*.soak.mjs' -o -path '*/guarantees/*' -name '*.test.mjs')
	test/e2e/install
	SOAK=1 $(TEST) build/test/e2e/guarantees.test.mjs

# The baseline servers are CommonJS, because Node starts it faster than ES modules.
build/bench: node_modules $(shell find test/bench test/support test/e2e -name '*.ts')
	node_modules/.bin/tsc -p test
	$(ESBUILD) test/bench/*.ts --bundle --splitting --format=esm --out-extension:.js=.mjs --outdir=build/bench
	$(ESBUILD) test/bench/servers/*.ts --format=cjs --out-extension:.js=.cjs --outdir=build/bench/servers
	@touch build/bench

bench: build build/bench ## Measure README's benchmark table (root; ONLY=B1,B7 selects, UPDATE_README=1 writes it there)
	node build/bench/bench.mjs

test-matrix: build/test build/bench ## Run the tests, B1, B2, B7 and B8 on Node 20, 22, 24 and 26 (VERSIONS=20,26, PARTS=tests)
	node build/bench/matrix.mjs

# Runs the real credential store and backoff. HOSTS, REQUESTS, SCENE and SEED change the fleet.
sim: node_modules ## Simulate a fleet of 10,000 hosts: plots in build/sim, status 1 if README's claims do not hold
	node_modules/.bin/tsc -p test
	$(ESBUILD) test/sim/sim.ts --bundle --format=esm --outfile=build/sim/sim.mjs
	node build/sim/sim.mjs

include packaging/packages.mk

clean: ## Remove everything that was built and installed
	rm -rf node_modules build dist bin/metadataproxy
