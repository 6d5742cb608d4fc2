# One verb for each need. Only make, Python 3.11 and coreutils must be there; the rest goes into .venv.
.DEFAULT_GOAL := help
.PHONY: help run demo test test-crash test-stores test-models lint test-all bench-retrieval bench-stores
export PYTHON
MAKEFLAGS += --no-print-directory

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 26

run: ## Run the whole service on this machine until Ctrl-C
	@scripts/bootstrap.sh run
	@exec .venv/bin/rag-service up

demo: ## Run it with sample documents and a small language model
	@scripts/bootstrap.sh demo
	@exec .venv/bin/rag-service demo

test: ## Run the tests that need no browser
	@scripts/bootstrap.sh dev
	@scripts/test.sh unit contract integration

lint: ## Check format, style, types and the arrows between the folders
	@scripts/bootstrap.sh dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

test-stores: ## Run the tests of vector stores against every real server
	@scripts/bootstrap.sh dev
	@EVERY_STORE=1 scripts/test.sh stores crash

test-crash: ## Kill a random part of the service in each of ROUNDS=30 rounds of an ingest: make test-crash [STORE=redis] [BROKER=rabbitmq] [DISK=1] [CLOCK=1]
	@scripts/bootstrap.sh dev
	@.venv/bin/python tests/crash/rounds.py $(or $(ROUNDS),30) --store $(or $(STORE),pgvector) \
		$(if $(BROKER),--broker $(BROKER)) $(if $(DISK),--disk) $(if $(CLOCK),--clock)

test-models: ## Run the tests against real model engines: llama.cpp, Ollama (built with Go, once), vLLM (2.5 GB), sentence-transformers
	@scripts/bootstrap.sh dev
	@scripts/test.sh engines models contract/test_llms.py integration/test_real_engines.py integration/test_answering_models.py

test-all: ## Run everything that CI runs
	@.ci/run

bench-retrieval: ## Measure retrieval on a data set: make bench-retrieval DATA=folder [LIMIT=200] [PEERS=1]
	@test -n "$(DATA)" || { echo 'Name the data set: make bench-retrieval DATA=folder' >&2; exit 2; }
	@scripts/bootstrap.sh dev
	@python=.venv/bin/python; $(if $(PEERS),python=$$(benchmarks/peers.sh $$python) &&) \
		$$python -m benchmarks.retrieval $(DATA) $(if $(LIMIT),--limit $(LIMIT)) $(if $(PEERS),--peers)

bench-stores: ## Measure the vector stores: make bench-stores [KINDS="redis mongo"] [N=20000]
	@scripts/bootstrap.sh dev
	@.venv/bin/python -m benchmarks.stores $(KINDS) --chunks $(or $(N),20000)
