# SPDX-License-Identifier: GPL-2.0
#
#   make                   minikvm.ko and userspace/minikvm
#   make modules_install   the module, for the kernel it was built for
#   make install           the launcher and the udev rule
#   make demo, make check  scripts/demo and scripts/check (options in ARGS=)
#   make clean
#
# KVER=release or KDIR=directory choose the kernel, W=1 and C=2 more warnings and
# sparse. DESTDIR= and PREFIX= say where to install.

KVER   ?= $(shell uname -r)
KDIR   ?= /lib/modules/$(KVER)/build
PREFIX ?= /usr/local

kbuild = $(MAKE) -C $(KDIR) M=$(CURDIR)

.PHONY: all modules userspace modules_install install demo check clean

all: modules userspace

modules: | $(KDIR)/Makefile
	$(kbuild) modules

userspace:
	$(MAKE) -C userspace

INSTALL_MOD_PATH ?= $(DESTDIR)
modules_install: | $(KDIR)/Makefile
	$(kbuild) INSTALL_MOD_PATH=$(INSTALL_MOD_PATH) modules_install

install: userspace
	install -D -m 755 userspace/minikvm $(DESTDIR)$(PREFIX)/bin/minikvm
	install -D -m 644 scripts/65-minikvm.rules $(DESTDIR)/etc/udev/rules.d/65-minikvm.rules

demo check:
	scripts/$@ $(ARGS)

# The headers of the kernel that was built for may be gone by now.
clean:
	[ ! -e $(KDIR)/Makefile ] || $(kbuild) clean
	$(MAKE) -C userspace clean
	$(MAKE) -C selftests clean
	$(MAKE) -C selftests/unit clean

%/Makefile:
	@echo "No kernel headers in $*." >&2
	@echo "Install linux-headers-$(KVER), or name another kernel by KVER= or KDIR=. Here:" >&2
	@ls -d /lib/modules/*/build 2>/dev/null | sed 's,/lib/modules/\(.*\)/build,  KVER=\1,' >&2
	@false
