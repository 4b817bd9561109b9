# The verbs of the house; each builds .venv first when it is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready
MARKS ?= not slow
WORKERS ?= 2
# Python keeps what it has compiled: without, each process spends 2.4 s on compiling torch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check docs bench zoo build format constraints

demo: $(STAMP)           ## the whole way on real images, on this machine, under two minutes
	$(BIN)/houndsight demo

test: $(STAMP)           ## the tests, but for slow ones; `make test MARKS=` runs every test that can run here
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "$(MARKS)"

check: $(STAMP)          ## format, lint, types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(STAMP)         ## write the format and the safe lint repairs
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(STAMP)           ## rebuild what the documentation shows of the code
	$(BIN)/python docs/build.py

bench: $(STAMP)          ## side-by-side ratios; see benchmarks/README.md
	$(BIN)/python -m benchmarks

zoo: $(STAMP)            ## plant every mistake in small trainings, see which rules name them, and write docs/rules.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.zoo $(WORKERS)

build: $(STAMP)          ## the wheel and the source archive, in dist/
	$(BIN)/uv build --quiet

constraints: $(STAMP)    ## resolve the pins again, to the newest releases
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	    --all-extras --group dev --upgrade pyproject.toml -o constraints.txt

# A half-made .venv has no stamp and is made again from nothing.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Houndsight needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --constraint constraints.txt --editable '.[s3,tables]' --group dev
	@touch $(STAMP)
