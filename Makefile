# Every target does all the set-up it needs, on a fresh Debian 12, as root.
PYTHON := /usr/bin/python3
VENV := .venv
PACKAGES := iproute2 iputils-ping nftables procps python3-venv socat

# Tests and the demonstration touch firewalls, so they run in namespaces of their own.
ISOLATED := unshare --net --mount sh -c 'mount --make-rprivate / && mount -t tmpfs run /run && mkdir -p /run/netns && ip link set lo up && export IPSECD_ISOLATED=1 && exec "$$@"' sh

.PHONY: setup test demo lint bench

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml
	command -v nft ip ping socat sysctl >/dev/null && $(PYTHON) -c 'import ensurepip' || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PACKAGES); }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

lint: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy daemon ctl tests

test: setup
	$(ISOLATED) $(VENV)/bin/python -m pytest -q

demo: setup
	$(ISOLATED) bash docs/demo.sh $(VENV)/bin

bench: setup
	$(ISOLATED) $(VENV)/bin/python bench/status.py
	$(ISOLATED) $(VENV)/bin/python bench/dynamic_add.py
