# Two commands: `make run` starts a development node, `make test` checks everything. Both make .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test interop vectors docs clean

run: $(VENV)/.installed
	@$(BIN)/mailnode run

test: $(VENV)/.installed-test
	@$(BIN)/python .ci/checks.py

# Mail clients of others against a node over TLS; ends with a table of who knows what.
interop: $(VENV)/.installed-test
	@$(BIN)/python -m twisted.trial tests.interop.test_clients tests.interop.test_certificate_swap

# Test vectors of others for SPF, DKIM, DMARC, ARC and Authentication-Results: how many pass.
vectors: $(VENV)/.installed-test
	@$(BIN)/python -m tests.mailauth.vectors

docs: $(VENV)/.installed
	$(BIN)/python -m twisted_mail_node.settings_docs > docs/settings.rst
	$(BIN)/python -m twisted_mail_node.reference_docs reasons > docs/reasons.rst
	$(BIN)/python -m twisted_mail_node.reference_docs events > docs/events.rst
	$(BIN)/python -m twisted_mail_node.reference_docs causes > docs/causes.rst

clean:
	rm -rf $(VENV) _trial_temp* .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }

# editable_mode=compat puts this folder itself on the path: twistd finds the plug-in in twisted/plugins, trial finds tests.
$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) (once; a minute or so) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e .
	@touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV), with what the tests need (once; a minute or so) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e '.[test]'
	@touch $@ $(VENV)/.installed
