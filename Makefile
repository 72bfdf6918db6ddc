# make demo: from nothing to a scored translation.  make test: the checks that CI runs.
# Both set up .venv themselves, and reuse what stands.

PYTHON ?= python3
BIN := .venv/bin
CORPUS := data/home-assistant/en-de
RUN := runs/demo

.PHONY: demo test

demo: .venv/installed
	@echo "== 1/6 the corpus: user-interface strings of Home Assistant, English to German"
	$(BIN)/python scripts/home_assistant.py data/home-assistant
	@echo "== 2/6 prepare: tokenizer and token store, with a report on the data"
	$(BIN)/mtrain prepare configs/demo.yaml
	@echo "== 3/6 train: about 7 minutes; run again, it resumes"
	$(BIN)/mtrain train configs/demo.yaml
	@echo "== 4/6 translate: the test set"
	$(BIN)/mtrain translate $(RUN) $(CORPUS)/test.en --output $(RUN)/test.translated.de
	@echo "== 5/6 a dozen of its sentences"
	$(BIN)/python scripts/show_translations.py \
		$(CORPUS)/test.en $(RUN)/test.translated.de $(CORPUS)/test.de
	@echo "== 6/6 score: the strings repeat themselves across components, so near-copies of test"
	@echo "   sentences stand in train (see 1/6), and this BLEU is higher than it would be on new text"
	$(BIN)/mtrain score $(RUN)
	@echo
	@echo "What to type next:"
	@echo "  source $(BIN)/activate"
	@echo "  echo 'Turn on the light in the kitchen.' | mtrain translate $(RUN)"
	@echo "  mtrain train configs/demo.yaml --set training.max_minutes=20   # resumes"
	@echo "  mtrain score $(RUN) --json --fail-under 30                     # yes or no for a CI"
	@echo "and with two text files of your own: see README.md"

test: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy & types=$$!; OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= \
		$(BIN)/pytest -q -n auto --dist loadfile && wait $$types # pytest: a process a core

.venv/installed: pyproject.toml constraints.txt
	@echo "== setting up .venv"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "== adding the tools for tests to .venv"
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
