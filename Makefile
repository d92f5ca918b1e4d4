# Sets up, shows and checks Propagator from a fresh clone on Debian 12. `make` lists what there is.
# PYTHON chooses the interpreter: make install PYTHON=python3.12

PYTHON ?= python3
# Files of tests side by side: they wait for processes most of the time. In their own order the longest come first.
JOBS ?= 2
VENV := .venv

.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euc
.PHONY: help install demo test lint docs clean system test-system bench soak

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

install: $(VENV)/.installed ## put the `propagator` command into .venv, with what it needs

demo: install ## a lead, its broker and shadows on this machine, with real TLS
	@exec $(VENV)/bin/propagator demo

test: install test-system $(VENV)/.tools ## run the tests
	@exec $(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

lint: install $(VENV)/.tools ## check style, formatting, types and the direction of imports
	@failed=0
	$(VENV)/bin/ruff check || failed=1
	$(VENV)/bin/ruff format --check || failed=1
	$(VENV)/bin/mypy || failed=1
	$(VENV)/bin/lint-imports --no-logo || failed=1
	exit $$failed

bench: install $(VENV)/.bench ## figures: a change, a shadow at rest, `status`, the portal (7 minutes; FIGURES=FILE keeps JSON)
	@if ! command -v nats-server >/dev/null 2>&1 && ! test -x /usr/sbin/nats-server; then
		echo "Missing: Debian package nats-server, which this is compared with. Debian starts it on port 4222; ours has its own."
		sudo=
		test "$$(id -u)" = 0 || sudo=sudo
		$$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends \
			nats-server >/dev/null || echo "It could not be installed; going on without it." >&2
	fi
	$(VENV)/bin/python -m benchmarks $${FIGURES:+--json "$$FIGURES"}
	exec $(VENV)/bin/python -m benchmarks.portal

soak: test-system $(VENV)/.tools ## every fault at 200 shadows, and nothing lost (MINUTES=20 SHADOWS=200 SEED= REPORT=FILE)
	@exec $(VENV)/bin/python -m tests.soak $${MINUTES:+--minutes "$$MINUTES"} $${SHADOWS:+--shadows "$$SHADOWS"} \
		$${SEED:+--seed "$$SEED"} $${REPORT:+--report "$$REPORT"}

docs: install $(VENV)/.tools ## write docs/schemas, asyncapi.yaml and diagnostics.md anew, from the code
	@exec $(VENV)/bin/python -m tests.docs.generate

clean: ## remove .venv, caches and built files (no state of any server)
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# The editable install reads the code in place: only a change of the dependencies asks for a new one.
$(VENV)/.installed: pyproject.toml | system
	@if ! $(VENV)/bin/python -m pip --version >/dev/null 2>&1; then
		echo "Making $(VENV): a Python environment of our own, so that nothing else on this machine changes."
		$(PYTHON) -m venv --clear $(VENV)
	fi
	echo "Installing Propagator and the Python packages it needs into $(VENV) (up to a minute)."
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[portal]'
	touch $@
	echo "Ready: $(VENV)/bin/propagator"

$(VENV)/.tools: pyproject.toml $(VENV)/.installed
	@echo "Installing the developers' tools (pytest, mypy, ruff and so on) into $(VENV)."
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[portal,dev]'
	touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.installed
	@echo "Installing nats-py, which the figures are compared with, into $(VENV)."
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

# What pip cannot bring, for everybody and for the tests alone. Quick when nothing is missing; says what it does, and
# why, before it does it. No firewall is started: the tests run theirs in network namespaces.
system test-system:
	@have() { command -v "$$1" >/dev/null 2>&1 || test -x "/usr/sbin/$$1"; }
	fail() { echo "Error: $$1" >&2; echo "Try: $$2" >&2; exit 1; }
	if ! have $(PYTHON); then
		fail "there is no $(PYTHON) here." "apt-get install python3, or name another: make install PYTHON=/path/to/python3"
	fi
	if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
		fail "$(PYTHON) is $$($(PYTHON) -V 2>&1); Propagator needs Python 3.11 or newer." \
			"name a newer one: make install PYTHON=python3.11"
	fi
	can_make_venv() { $(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -c 'import ensurepip' 2>/dev/null; }
	packages=
	need() { packages="$$packages $$1"; echo "Missing: Debian package $$1, $$2."; }
	case $@ in
	system)
		have mosquitto || need mosquitto "the message broker that a lead runs as its own child"
		have mosquitto_sub || need mosquitto-clients "which lets you and the tests look at what a broker carries"
		can_make_venv || need python3-venv "which makes Python environments"
		;;
	test-system)
		have systemd-analyze || need systemd "whose own judgement the tests hold the service's unit to"
		have ip || need iproute2 "which makes the networks that the tests of firewalls run in"
		have nft || need nftables "the packet filter that the tests close and open there"
		have iptables-legacy || need iptables "the same, as older servers have it"
		have ufw || need ufw "one of the two firewalls that people have on Debian"
		have firewall-cmd || need firewalld "the other one; it is not started here"
		have dbus-daemon || need dbus-daemon "by which firewalld is spoken to"
		have chromium || need chromium "the browser in which the tests go through the portal's pages"
		test -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf || need fonts-dejavu-core "the letters in that browser"
		ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || need postgresql "the other database that the portal may keep its systems in"
		have faketime || need faketime "by which the clock of an agent under test is wrong"
		have strace || need strace "which records every step of the disk under the tests, and kills at each of them"
		;;
	esac
	test -n "$$packages" || exit 0
	command="apt-get update && apt-get install --no-install-recommends$$packages"
	have apt-get || fail "$$packages: not installed, and this is no Debian." "install the like of them with this system's own tool"
	sudo=
	if [ "$$(id -u)" != 0 ]; then
		have sudo || fail "installing needs root, and there is no sudo." "as root: $$command"
		sudo=sudo
	fi
	apt() { $$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$$@"; }
	case "$$packages " in *" mosquitto "*)
		echo "Note: Debian starts a mosquitto service of its own on port 1883. Propagator neither uses nor touches it."
	esac
	case "$$packages " in *" firewalld "*)
		# Debian would start it at once, and this machine would be behind a firewall that nobody asked for.
		$$sudo mkdir -p /etc/systemd/system
		$$sudo ln -sfn /dev/null /etc/systemd/system/firewalld.service
		echo "Note: firewalld is installed masked, so that it never starts here by itself: systemctl unmask firewalld"
	esac
	case "$$packages " in *" postgresql "*)
		echo "Note: Debian starts a PostgreSQL of its own on port 5432. The tests run theirs in a folder of their own."
	esac
	echo "Running apt-get update, since the lists of packages may be old or empty."
	apt update || echo "The lists could not be renewed; trying with those that are here." >&2
	echo "Running apt-get install for:$$packages"
	apt install -y --no-install-recommends $$packages >/dev/null || fail "apt-get could not install$$packages." "as root: $$command"
	can_make_venv || fail "$(PYTHON) still cannot make environments: it has no ensurepip." "make install PYTHON=/usr/bin/python3"
