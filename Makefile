# Debian's Python is built with all optimizations, which one that was built by hand often lacks: up to 1.6 times as fast.
PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
# Servers are started hundreds of times: their modules are compiled once, not each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test soak fuzz check format docs lock lock-docs interop-deps clean

run: $(VENV)/ready
	$(BIN)/pillarbox demo

test: check
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# Clients of all protocols and SIGKILL for SOAK_S seconds, then as long of IMAP's model test with new seeds, then tests that
# have no end of cases with ten times as many as in the suite (tests/budget.py).
SOAK_S ?= 1800
soak: $(VENV)/ready
	PYTHONPATH=. $(BIN)/python tests/service/robust/soak.py --seconds $(SOAK_S)
	SOAK_S=$(SOAK_S) $(BIN)/python -m pytest tests/service/imapd/test_model.py -k soak
	SOAK_S=$(SOAK_S) $(BIN)/python -m pytest -n $(JOBS) tests/service/store/test_power_cut.py tests/property \
		tests/service/queue/test_days.py tests/service/robust/test_kill.py

# Every parser with inputs that grow from tests/corpus, FUZZ_SECONDS for each target; FUZZ names some only.
FUZZ_SECONDS ?= 600
FUZZ ?=
fuzz: $(VENV)/ready
	$(BIN)/python -W ignore tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS) $(FUZZ)

# Formatting, lint, types, floors, the RFC index and the pages that are made from code; no tests.
check: $(VENV)/ready
	$(BIN)/ruff format --check src tests bench tools docs/examples
	$(BIN)/ruff check src tests bench tools docs/examples
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/rfcs.py
	$(BIN)/python tools/reference.py

format: $(VENV)/ready
	$(BIN)/ruff format src tests bench tools docs/examples
	$(BIN)/ruff check --fix src tests bench tools docs/examples
	$(BIN)/python tools/reference.py --write

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Pillarbox needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# The site and the man pages, in build/site and build/man; what it is made with has a virtual environment of its own.
DOCS_VENV := .venv-docs
docs: build/site.made

build/site.made: $(DOCS_VENV)/ready mkdocs.yml tools/website.py $(wildcard *.md bench/*.md) $(shell find docs -type f)
	$(DOCS_VENV)/bin/python tools/website.py gather build/docs
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --quiet --strict
	$(DOCS_VENV)/bin/python tools/website.py check build/site
	mkdir -p build/man && cp docs/man/* build/man
	touch $@

$(DOCS_VENV)/ready: requirements-docs.lock
	test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.lock
	touch $@

lock: $(VENV)/ready
	(head -1 requirements.lock; $(BIN)/python -m pip freeze --all --exclude-editable | grep -v '^pip==' | LC_ALL=C sort -f) > requirements.lock.new
	mv requirements.lock.new requirements.lock

lock-docs: $(DOCS_VENV)/ready
	(head -1 requirements-docs.lock; $(DOCS_VENV)/bin/python -m pip freeze --all | grep -v '^pip==\|^setuptools==' | LC_ALL=C sort -f) > requirements-docs.lock.new
	mv requirements-docs.lock.new requirements-docs.lock

# Debian's and Node's packages that only the interoperability tests and the benchmarks use.
interop-deps:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		swaks libnet-ssleay-perl isync msmtp mpop fetchmail getmail6 mutt curl openssl postfix dnsmasq-base \
		offlineimap3 imapfilter aerc gsasl slapd ldap-utils dovecot-imapd pebble thunderbird \
		claws-mail xvfb evolution-data-server gir1.2-camel-1.2 glib-networking python3-gi </dev/null
	if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --no-save --prefix tests/interop imapflow; fi

clean:
	rm -rf $(VENV) $(DOCS_VENV) build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
