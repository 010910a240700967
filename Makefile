# Every target does all the set-up it needs, on a fresh Debian 12, as root.
PYTHON := /usr/bin/python3
VENV := .venv
PACKAGES := bpftool clang clang-format curl iproute2 iputils-ping libbpf-dev linux-libc-dev llvm make nftables procps \
	python3-venv socat strace

# Programs are started thousands of times, and none compiles its modules again.
unexport PYTHONDONTWRITEBYTECODE

# Tests and the demonstration touch firewalls, so they run in namespaces of their own.
ISOLATED := tests/isolated

# Whether all these commands are here.
have = for command in $(1); do command -v $$command >/dev/null || exit 1; done

.PHONY: setup generated docs test test-moments test-kernels kernels soak demo lint bench bench-again bench-figures bench-page bench-performance programs deb deb-tools base-system install \
	install-data install-programs install-windows-commands

# The programs are compiled here, once, and ship in the package: no host that runs them needs clang.
PROGRAMS := daemon/ipsecd/backend/xdp/ipsecd.bpf.o
BPF_FLAGS := -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -Wno-sign-compare \
	-I/usr/include/$(shell uname -m)-linux-gnu

setup: $(VENV)/.done $(PROGRAMS)

programs: $(PROGRAMS)

$(PROGRAMS): $(wildcard bpf/*.h bpf/*.c)
	clang $(BPF_FLAGS) -c bpf/ipsecd.bpf.c -o $@.tmp
	llvm-strip -g $@.tmp
	mv $@.tmp $@

build/%.bpf.o: bench/%.bpf.c $(wildcard bench/*.bpf.c bpf/*.h bpf/*.c) | $(VENV)/.done
	mkdir -p build
	clang $(BPF_FLAGS) -c $< -o $@

# What a package has besides the Python code. Every file is listed, so that none comes by accident.
PREFIX := /usr/local
SYSCONFDIR := /etc
UNITDIR := $(PREFIX)/lib/systemd/system
HOOK_PYTHON := $(PREFIX)/lib/ipsecd/bin/python3
# Where Podman looks for what is not part of the distribution, and zsh.
HOOKDIR := $(SYSCONFDIR)/containers/oci/hooks.d
ZSHDIR := $(PREFIX)/share/zsh/site-functions
DATA := install -D -m 644
# Where fail2ban finds the modules that its action needs.
MODULES := /usr/lib/python3/dist-packages
INTEGRATIONS := fail2ban/fail2ban.service.d/ipsecd.conf fail2ban/jail.d/ipsecd.local \
	crowdsec/crowdsec-custom-bouncer.service.d/ipsecd.conf crowdsec/crowdsec-custom-bouncer.yaml.local \
	sshguard/sshguard.service.d/ipsecd.conf prometheus/ipsecd.dashboard.json prometheus/ipsecd.rules.yml
# Where Ansible looks for collections, if PREFIX is /usr.
COLLECTION_FILES := README.md galaxy.yml meta/runtime.yml plugins/doc_fragments/ipsecctl.py \
	plugins/module_utils/ipsecctl.py $(foreach name,block list policy rule,plugins/modules/$(name).py)

# The commands as people and programs start them, often: -I keeps what a user has among his own modules
# out, and what pip and setuptools write imports more before the first line of ours. INTERPRETER runs them.
INTERPRETER := /usr/bin/python3
define a_program
	install -d $(dir $(1))
	rm -f $(1)
	printf '#!%s -I\nimport sys\n\nfrom %s import main\n\nsys.exit(main())\n' $(INTERPRETER) $(2) > $(1)
	chmod 755 $(1)

endef

install-programs:
	$(call a_program,$(DESTDIR)$(PREFIX)/bin/ipsecctl,ipsecctl.__main__)
	$(call a_program,$(DESTDIR)$(PREFIX)/libexec/ipsecd/ipsecd-crowdsec,ipsecd_bans.crowdsec)
	$(call a_program,$(DESTDIR)$(PREFIX)/libexec/ipsecd/sshg-fw-ipsecd,ipsecd_bans.sshguard)
	$(call a_program,$(DESTDIR)$(PREFIX)/libexec/ipsecd/ipsecd-countries,ipsecd_bans.countries)

# The commands of Windows are one program, which goes by the name that it is started by, and links to it.
# Names that nobody else has are among all commands, where sudo, cron and ssh look too. net and sc, which
# are others' as well, are in a directory of their own (docs/decisions/0040).
WINDOWS_COMMANDS := ipseccmd ipsecpol netdiag secedit gpupdate netsh
WINDOWS_SPELLINGS := $(WINDOWS_COMMANDS) $(WINDOWS_COMMANDS:=.exe) IPSeccmd IPSeccmd.exe Ipsecpol Ipsecpol.exe
SHARED_NAMES := net sc
WINDOWS_DIR = $(PREFIX)/lib/ipsecd/windows
WINDOWS_PAGES := docs/man/ipseccmd.1

install-windows-commands:
	$(call a_program,$(DESTDIR)$(PREFIX)/lib/ipsecd/windows-command,ipsecctl.__main__)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(WINDOWS_DIR) $(DESTDIR)$(SYSCONFDIR)/profile.d
	for name in $(WINDOWS_SPELLINGS); do \
	  ln -sf ../lib/ipsecd/windows-command $(DESTDIR)$(PREFIX)/bin/$$name || exit 1; \
	done
	for name in $(SHARED_NAMES) $(SHARED_NAMES:=.exe); do \
	  ln -sf ../windows-command $(DESTDIR)$(WINDOWS_DIR)/$$name || exit 1; \
	done
	sed -e 's|/usr/lib/ipsecd/windows|$(WINDOWS_DIR)|' ctl/windows-commands.sh \
	  > $(DESTDIR)$(SYSCONFDIR)/profile.d/ipsecd-windows-commands.sh
	for page in $(WINDOWS_PAGES); do \
	  $(DATA) $$page $(DESTDIR)$(PREFIX)/share/man/man1/$${page##*/} || exit 1; \
	done
	for name in $(filter-out $(basename $(notdir $(WINDOWS_PAGES))),$(WINDOWS_SPELLINGS)); do \
	  ln -sf ipseccmd.1 $(DESTDIR)$(PREFIX)/share/man/man1/$$name.1 || exit 1; \
	done

install-data:
	test -e $(DESTDIR)$(SYSCONFDIR)/ipsecd/ipsecd.yaml || \
	  $(DATA) systemd/ipsecd.yaml $(DESTDIR)$(SYSCONFDIR)/ipsecd/ipsecd.yaml
	for unit in ipsecd.service ipsecd.socket ipsecd-boot.service ipsecd-domain.service ipsecd-web.service ipsecd-metrics.service; do \
	  install -d $(DESTDIR)$(UNITDIR) && \
	  sed -e 's|/usr/sbin|$(PREFIX)/sbin|; s|/usr/libexec|$(PREFIX)/libexec|; s|/usr/bin|$(PREFIX)/bin|' systemd/$$unit \
	    > $(DESTDIR)$(UNITDIR)/$$unit || exit 1; \
	done
	install -D -m 755 systemd/end-on-purpose $(DESTDIR)$(PREFIX)/libexec/ipsecd/end-on-purpose
	install -d $(DESTDIR)$(HOOKDIR)
	sed -e 's|/usr/libexec|$(PREFIX)/libexec|' systemd/ipsecd-hook.json \
	  > $(DESTDIR)$(HOOKDIR)/ipsecd.json
	printf '#!/bin/sh\nexec %s -m ipsecctl.hook\n' $(HOOK_PYTHON) > $(DESTDIR)$(PREFIX)/libexec/ipsecd/container-hook
	chmod 755 $(DESTDIR)$(PREFIX)/libexec/ipsecd/container-hook
	install -d $(DESTDIR)$(SYSCONFDIR)/fail2ban/action.d
	sed -e 's|/usr/lib/python3/dist-packages|$(MODULES)|' integrations/fail2ban/action.d/ipsecd-block.py \
	  > $(DESTDIR)$(SYSCONFDIR)/fail2ban/action.d/ipsecd-block.py
	for file in $(INTEGRATIONS); do \
	  install -d $(DESTDIR)$(PREFIX)/share/ipsecd/$${file%/*} && \
	  sed -e 's|/usr/libexec|$(PREFIX)/libexec|' integrations/$$file > $(DESTDIR)$(PREFIX)/share/ipsecd/$$file || exit 1; \
	done
	for file in $(COLLECTION_FILES); do \
	  $(DATA) integrations/ansible/$$file \
	    $(DESTDIR)$(PREFIX)/share/ansible/collections/ansible_collections/ipsecd/host/$$file || exit 1; \
	done
	$(DATA) systemd/ipsecd.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/ipsecd.conf
	$(DATA) systemd/ipsecd.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/ipsecd.conf
	for page in $(filter-out $(WINDOWS_PAGES),$(wildcard docs/man/*.[158])); do \
	  $(DATA) $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/} || exit 1; \
	done
	$(DATA) ctl/completions/ipsecctl.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/ipsecctl
	$(DATA) ctl/completions/_ipsecctl $(DESTDIR)$(ZSHDIR)/_ipsecctl
	$(DATA) ctl/completions/ipsecctl.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/ipsecctl.fish

# For distributions without a package: a virtual environment with all that Python code needs, the
# commands, and the same units. README.md says what it needs and what to do then.
VENV_PYTHON = $(PREFIX)/lib/ipsecd/bin/python3
VERSION = $(shell $(PYTHON) -c 'import sys; print("python%d.%d" % sys.version_info[:2])')

install: programs
	$(MAKE) install-data MODULES=$(PREFIX)/lib/ipsecd/lib/$(VERSION)/site-packages
	$(PYTHON) -m venv $(DESTDIR)$(PREFIX)/lib/ipsecd
	$(DESTDIR)$(PREFIX)/lib/ipsecd/bin/pip install --quiet --disable-pip-version-check '.[containers,domain,top,metrics]'
	if [ -n "$(DESTDIR)" ]; then sed -i '1s|$(DESTDIR)||' $(DESTDIR)$(PREFIX)/lib/ipsecd/bin/*; fi
	install -d $(DESTDIR)$(PREFIX)/sbin
	for name in ipsecd ipsecd-domain ipsecd-metrics; do ln -sf ../lib/ipsecd/bin/$$name $(DESTDIR)$(PREFIX)/sbin/$$name || exit 1; done
	$(MAKE) install-programs install-windows-commands INTERPRETER=$(VENV_PYTHON)

# The package, in build/deb, made from a copy of this tree.
DEB_PACKAGES := build-essential clang debhelper dh-python libbpf-dev lintian linux-libc-dev llvm \
	pybuild-plugin-pyproject python3-all python3-setuptools

deb-tools:
	dpkg-query -W $(DEB_PACKAGES) >/dev/null 2>&1 || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(DEB_PACKAGES); }

# Libraries that Debian has no package of, which ours brings.
SHIPPED := build/shipped

$(SHIPPED)/.done: debian/shipped.txt | $(VENV)/.done
	rm -rf $(SHIPPED) && mkdir -p $(SHIPPED)
	$(VENV)/bin/pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
	  --dest $(SHIPPED) --requirement debian/shipped.txt
	touch $@

deb: deb-tools $(SHIPPED)/.done
	rm -rf build/deb && mkdir -p build/deb/ipsecd
	tar -c --exclude-vcs --exclude=./build --exclude=./$(VENV) --exclude='*.egg-info' --exclude=__pycache__ \
	  --exclude='.*_cache' --exclude=./.hypothesis . | tar -x -C build/deb/ipsecd
	mkdir build/deb/ipsecd/shipped && cp $(SHIPPED)/*.whl build/deb/ipsecd/shipped/
	cd build/deb/ipsecd && PATH=/usr/sbin:/usr/bin:/sbin:/bin dpkg-buildpackage --build=binary --no-sign
	lintian --fail-on error,warning build/deb/*.changes

MACHINE_PACKAGES := aardvark-dns busybox-static debootstrap fish iptables libdevmapper1.02.1 netavark podman \
	systemd-container ufw zsh

# Unpacked and not installed: what is installed starts at once, and changes the firewall of this host.
# $(1) are packages, and $(2) says what there is not without them.
DOWNLOAD := apt-get -qq -o APT::Sandbox::User=root download
define unpacked
	rm -rf $(@D) && mkdir -p $(@D)/packages && cd $(@D)/packages && \
	  { $(DOWNLOAD) $(1) || { apt-get -qq update && $(DOWNLOAD) $(1); }; } && \
	  for package in *.deb; do dpkg-deb -x $$package ..; done && rm -r ../packages && touch ../.done || \
	  { [ -z "$$CI" ] && echo "$(2): tests with it are skipped"; }
endef

DOCKER := build/docker
$(DOCKER)/.done:
	$(call unpacked,containerd docker.io runc,no Docker)

SERVERS := build/servers
$(SERVERS)/.done:
	$(call unpacked,etcd-server nginx nginx-common,no web server or no etcd)

# A scanner and what it is linked with, and firewalls and servers that are tried beside ours.
LAB := build/lab
$(LAB)/.done:
	$(call unpacked,firewalld libblas3 liblinear4 liblua5.3-0 libpcap0.8 libssh2-1 libwrap0 lua-lpeg nmap nmap-common \
	  openssh-client openssh-server python3-cap-ng python3-firewall python3-nftables traceroute,no scanner)

# What finds attackers, and has ipsecd ban them; and which country an address belongs to.
FINDERS := build/finders
$(FINDERS)/.done:
	$(call unpacked,crowdsec-custom-bouncer fail2ban sshguard tor-geoipdb,nothing that bans and no database of countries)

# What decides, with the local API that tells its bouncers.
CROWDSEC := build/crowdsec
$(CROWDSEC)/.done:
	$(call unpacked,crowdsec,no CrowdSec)

# A browser, which the page is tried in, and what it is linked with.
BROWSER := build/browser
$(BROWSER)/.done:
	$(call unpacked,chromium-common chromium-headless-shell fonts-dejavu-core libasound2 libasyncns0 libatk1.0-0 \
	  libatspi2.0-0 libbrotli1 libbsd0 libdav1d6 libdbus-1-3 libdouble-conversion3 libdrm2 libexpat1 libflac12 libfontconfig1 \
	  libfreetype6 libgbm1 libglib2.0-0 libgraphite2-3 libharfbuzz-subset0 libharfbuzz0b libjpeg62-turbo liblcms2-2 libmd0 \
	  libminizip1 libmp3lame0 libmpg123-0 libnspr4 libnss3 libogg0 libopenh264-7 libopenjp2-7 libopus0 libpng16-16 libpulse0 \
	  libsndfile1 libvorbis0a libvorbisenc2 libwayland-server0 libx11-6 libx11-xcb1 libxau6 libxcb1 libxcomposite1 \
	  libxdamage1 libxdmcp6 libxext6 libxfixes3 libxi6 libxkbcommon0 libxnvctrl0 libxrandr2 libxrender1,no browser)
# What reads metrics, and tests alerts.
PROMETHEUS := build/prometheus
$(PROMETHEUS)/.done:
	$(call unpacked,prometheus,no Prometheus)

# Its own bouncer for nftables, which is measured beside ours; no test needs it.
FIREWALL_BOUNCER := build/firewall-bouncer
$(FIREWALL_BOUNCER)/.done:
	$(call unpacked,crowdsec-firewall-bouncer,no bouncer of CrowdSec's own)

# What lists are measured beside; no test needs it.
IPSET := build/ipset
$(IPSET)/.done:
	$(call unpacked,ipset libipset13,no ipset)

WITH_IPSET = env PATH=$(CURDIR)/$(IPSET)/usr/sbin:$$PATH LD_LIBRARY_PATH=$$(echo $(CURDIR)/$(IPSET)/usr/lib/*-linux-*)

# What the tests boot: made once, with the network that they do not have.
base-system: setup deb-tools $(DOCKER)/.done $(SERVERS)/.done $(LAB)/.done $(FINDERS)/.done $(CROWDSEC)/.done \
		$(BROWSER)/.done $(PROMETHEUS)/.done $(SHIPPED)/.done
	($(call have,busybox debootstrap fish iptables podman systemd-nspawn ufw zsh)) || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(MACHINE_PACKAGES); }
	$(VENV)/bin/python -m tests.boot.base || { [ -z "$$CI" ] && echo "no base system: tests that boot are skipped"; }

# What the guests need: an emulator, and kernels, unpacked below build/kernels and not installed.
KERNEL_PACKAGES := busybox-static kmod qemu-system-x86 util-linux

kernels: setup
	($(call have,busybox depmod qemu-system-x86_64 setpriv)) || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(KERNEL_PACKAGES); } || \
	  { [ -z "$$CI" ] && echo "no emulator: tests on other kernels are skipped"; }
	$(VENV)/bin/python -m tests.kernels.packages || { [ -z "$$CI" ] && echo "no kernels: tests on them are skipped"; }

$(VENV)/.done: pyproject.toml
	($(call have,bpftool clang clang-format curl ip llvm-strip nft ping socat strace sysctl)) && \
	  test -e /usr/include/bpf/bpf_helpers.h && $(PYTHON) -c 'import ensurepip' || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PACKAGES); }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

# What is written from the tables of the programs: completions, synopses of the manual page, and the
# reference.
generated: setup
	$(VENV)/bin/python -m ipsecctl.generate
	$(VENV)/bin/python -m ipsecd.service.reference

# The book as HTML, below build/docs; every link in it leads somewhere.
docs: generated
	$(VENV)/bin/sphinx-build --quiet --fail-on-warning --keep-going -c docs . build/docs

lint: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy daemon ctl integrations tests bench
	clang-format --dry-run --Werror bpf/*.[ch] bench/*.c tests/*/*.c

# How many tests run at a time, and after how many seconds the whole run is ended, and says where.
WORKERS := 4
LIMIT := 4800
PYTEST := $(VENV)/bin/python -m pytest -q -p tests.limit --limit $(LIMIT) --durations 20

# The guests run beside the other tests, and are waited for; what they said is printed last.
test: setup base-system kernels
	mkdir -p build
	$(VENV)/bin/python -m compileall -q daemon ctl tests
	$(PYTEST) -p no:cacheprovider tests/kernels >build/kernels.log 2>&1 & guests=$$!; \
	trap 'kill $$guests' INT TERM; \
	IPSECD_PATIENCE=$(WORKERS) $(PYTEST) -p tests.parallel --workers $(WORKERS) --ignore=tests/kernels; \
	result=$$?; \
	wait $$guests; others=$$?; cat build/kernels.log; exit $$((result | others))

# Everything that enforcement is tested with, on every kernel: hours.
test-kernels: setup base-system kernels
	IPSECD_KERNELS=whole $(VENV)/bin/python -m pytest -q tests/kernels

# The long form of what happens under a flood: everything a thousand times, which takes hours.
MOMENTS := 1000

test-moments: setup
	IPSECD_MOMENTS=$(MOMENTS) $(ISOLATED) $(VENV)/bin/python -m pytest -q --timeout 7200 tests/moments

# Random changes under a flood, so many seconds for each backend; it says its seed.
SECONDS := 7200
SEED :=

soak: setup
	$(ISOLATED) $(VENV)/bin/python -m tests.moments.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

demo: setup
	$(ISOLATED) bash docs/demo.sh $(VENV)/bin

# What docs/performance.md has; QUICK=--quick proves in a minute that all of it can be measured. Some of
# what ran last time may be of other contestants, so nothing of it stays.
QUICK :=

bench-figures: setup $(LAB)/.done $(FINDERS)/.done $(CROWDSEC)/.done $(FIREWALL_BOUNCER)/.done $(IPSET)/.done build/floor.bpf.o
	($(call have,iptables ufw xdp-filter)) || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq iptables ufw xdp-tools; }
	rm -rf build/bench
	$(ISOLATED) $(VENV)/bin/python -m bench.classify
	$(ISOLATED) $(VENV)/bin/python -m bench.xdp_filter
	$(ISOLATED) $(WITH_IPSET) $(VENV)/bin/python -m bench.packets $(QUICK)
	$(ISOLATED) $(VENV)/bin/python -m bench.opening
	$(ISOLATED) $(WITH_IPSET) $(VENV)/bin/python -m bench.changes $(QUICK)
	$(ISOLATED) $(VENV)/bin/python -m bench.bans
	$(ISOLATED) $(VENV)/bin/python -m bench.decisions
	$(ISOLATED) $(VENV)/bin/python -m bench.footprint $(QUICK)
	$(ISOLATED) $(VENV)/bin/python -m bench.scaling $(QUICK)

bench-performance: bench-figures
	rm -rf build/bench-again
	$(MAKE) bench-page

bench-again:
	test -d build/bench || { echo "no first run: make bench-performance measures it" >&2; exit 2; }
	rm -rf build/bench-first build/bench-again
	mv build/bench build/bench-first
	$(MAKE) bench-figures && mv build/bench build/bench-again; \
	result=$$?; rm -rf build/bench; mv build/bench-first build/bench; exit $$result
	$(MAKE) bench-page

# The page alone, from what was measured.
bench-page: setup
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(VENV)/bin/python -m bench.page

bench: bench-performance $(SERVERS)/.done build/candidates.bpf.o build/connections.bpf.o
	$(ISOLATED) $(VENV)/bin/python -m bench.status
	$(ISOLATED) $(VENV)/bin/python -m bench.dynamic_add
	$(ISOLATED) $(VENV)/bin/python -m bench.answering
	$(ISOLATED) $(VENV)/bin/python -m bench.announce
	$(ISOLATED) $(VENV)/bin/python -m bench.live
	$(ISOLATED) $(VENV)/bin/python -m bench.recorder 2
	$(ISOLATED) $(VENV)/bin/python -m bench.reports
	$(ISOLATED) $(VENV)/bin/python -m bench.load
	$(ISOLATED) $(WITH_IPSET) $(VENV)/bin/python -m bench.lists
	$(ISOLATED) $(WITH_IPSET) $(VENV)/bin/python -m bench.list_files
	$(ISOLATED) $(VENV)/bin/python -m bench.rules
	$(ISOLATED) $(VENV)/bin/python -m bench.candidates
	$(ISOLATED) $(VENV)/bin/python -m bench.second_look
	$(ISOLATED) $(VENV)/bin/python -m bench.rulesets
	$(ISOLATED) $(VENV)/bin/python -m bench.entry_counts
	$(ISOLATED) $(VENV)/bin/python -m bench.opening --scans
	$(ISOLATED) $(VENV)/bin/python -m bench.connections
	$(VENV)/bin/python -m bench.proofs
	$(VENV)/bin/python -m bench.structure
	$(ISOLATED) $(VENV)/bin/python -m bench.idle
	$(ISOLATED) $(VENV)/bin/python -m bench.fleet hosts 10 50 100
	$(ISOLATED) $(VENV)/bin/python -m bench.fleet simulated 10000
	$(ISOLATED) $(VENV)/bin/python -m bench.crowds
