# Every target does all the set-up it needs, on a fresh Debian 12, as root.
PYTHON := /usr/bin/python3
VENV := .venv
PACKAGES := bpftool clang clang-format iproute2 iputils-ping libbpf-dev linux-libc-dev llvm make nftables procps \
	python3-venv socat

# Tests and the demonstration touch firewalls, so they run in namespaces of their own.
ISOLATED := unshare --net --mount sh -c 'mount --make-rprivate / && mount -t tmpfs run /run && mkdir -p /run/netns && mount -t bpf bpf /sys/fs/bpf && ip link set lo up && export IPSECD_ISOLATED=1 && exec "$$@"' sh

.PHONY: setup test demo lint bench

# The programs are compiled here, once, and ship in the package: no host that runs them needs clang.
PROGRAMS := daemon/ipsecd/backend/xdp/ipsecd.bpf.o
BPF_FLAGS := -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -Wno-sign-compare \
	-I/usr/include/$(shell uname -m)-linux-gnu

setup: $(VENV)/.done $(PROGRAMS)

$(PROGRAMS): $(wildcard bpf/*.h bpf/*.c) | $(VENV)/.done
	clang $(BPF_FLAGS) -c bpf/ipsecd.bpf.c -o $@.tmp
	llvm-strip -g $@.tmp
	mv $@.tmp $@

build/%.bpf.o: bench/%.bpf.c $(wildcard bench/*.bpf.c bpf/*.h bpf/*.c) | $(VENV)/.done
	mkdir -p build
	clang $(BPF_FLAGS) -c $< -o $@

$(VENV)/.done: pyproject.toml
	command -v bpftool clang clang-format ip llvm-strip nft ping socat sysctl >/dev/null && \
	  test -e /usr/include/bpf/bpf_helpers.h && $(PYTHON) -c 'import ensurepip' || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PACKAGES); }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

lint: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy daemon ctl tests
	clang-format --dry-run --Werror bpf/*.[ch] bench/*.c

test: setup
	$(ISOLATED) $(VENV)/bin/python -m pytest -q

demo: setup
	$(ISOLATED) bash docs/demo.sh $(VENV)/bin

bench: setup build/floor.bpf.o build/candidates.bpf.o
	$(ISOLATED) $(VENV)/bin/python bench/status.py
	$(ISOLATED) $(VENV)/bin/python bench/dynamic_add.py
	$(ISOLATED) $(VENV)/bin/python -m bench.classify
	$(ISOLATED) $(VENV)/bin/python -m bench.load
	$(ISOLATED) $(VENV)/bin/python -m bench.xdp_filter
	$(ISOLATED) $(VENV)/bin/python -m bench.candidates
