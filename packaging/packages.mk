# Installing, packages and images: a part of the Makefile. What is generated comes to build/, what is made for others
# to dist/.

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
GENERATORDIR ?= $(dir $(UNITDIR))system-generators
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
# What the program is run by. The packages name the file, as their distributions want it.
NODE ?= /usr/bin/env node

# The same source gives the same bytes: all times are that of the last commit, or of the changelog's last entry.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || \
  date +%s --date "$$(sed -n 's/^ -- .*>  //p' packaging/changelog | head -n 1)")
export SOURCE_DATE_EPOCH

.PHONY: install uninstall deb rpm image dist

# Everything that is made from the definitions in lib/ and from the firewall script's help.
build/packaging: bin/metadataproxy iptables/setup LICENSE $(shell find packaging/generate packaging/man) packaging/changelog
	rm -rf $@
	$(ESBUILD) lib/main.ts --bundle --minify --format=cjs --define:METADATAPROXY_VERSION='""' \
	  --metafile=$@/bundle.json --outfile=$@/bundle.js
	$(ESBUILD) packaging/generate/generate.ts --bundle --format=esm --define:METADATAPROXY_VERSION='"$(VERSION)"' \
	  --outfile=$@/generate.mjs
	node $@/generate.mjs $@ $@/bundle.json
	@rm $@/bundle.js $@/bundle.json $@/generate.mjs

# Paths in units and the manual are those of PREFIX=/usr; for another one they are changed on the way.
AT_PREFIX = sed -e 's|/usr/bin/|$(PREFIX)/bin/|g' -e 's|/usr/sbin/|$(PREFIX)/sbin/|g'
AT = $(DESTDIR)$(PREFIX)

install: build/packaging ## Install into PREFIX (/usr/local), below DESTDIR; `make uninstall` takes it away
	install -d $(AT)/bin $(AT)/sbin $(DESTDIR)$(SYSCONFDIR)/metadataproxy $(DESTDIR)$(UNITDIR) $(DESTDIR)$(GENERATORDIR) $(DESTDIR)$(SYSUSERSDIR) \
	  $(AT)/share/man/man8 $(AT)/share/bash-completion/completions $(DESTDIR)$(ZSHDIR) $(AT)/share/doc/metadataproxy
	sed '1s|.*|#!$(NODE)|' bin/metadataproxy >$(AT)/bin/metadataproxy && chmod 755 $(AT)/bin/metadataproxy
	install -m 755 iptables/setup $(AT)/sbin/metadataproxy-firewall
	for unit in packaging/systemd/*.service packaging/systemd/*.socket; do \
	  $(AT_PREFIX) $$unit >$(DESTDIR)$(UNITDIR)/$${unit##*/} && chmod 644 $(DESTDIR)$(UNITDIR)/$${unit##*/}; done
	install -m 755 packaging/systemd/generator $(DESTDIR)$(GENERATORDIR)/metadataproxy
	install -m 644 packaging/systemd/sysusers.conf $(DESTDIR)$(SYSUSERSDIR)/metadataproxy.conf
	# Keys may be put into it: it is root's, who starts the service. One that is there already is the operator's.
	[ -e $(DESTDIR)$(SYSCONFDIR)/metadataproxy/metadataproxy.env ] || \
	  install -m 640 build/packaging/metadataproxy.env $(DESTDIR)$(SYSCONFDIR)/metadataproxy/metadataproxy.env
	for page in build/packaging/*.8; do \
	  gzip -9n <$$page >$(AT)/share/man/man8/$${page##*/}.gz && chmod 644 $(AT)/share/man/man8/$${page##*/}.gz; done
	install -m 644 build/packaging/completion.bash $(AT)/share/bash-completion/completions/metadataproxy
	ln -sf metadataproxy $(AT)/share/bash-completion/completions/metadataproxy-firewall
	install -m 644 build/packaging/completion.zsh $(DESTDIR)$(ZSHDIR)/_metadataproxy
	install -m 644 README.md build/packaging/copyright build/packaging/LICENSE.Apache-2.0 \
	  packaging/systemd/host-network.conf packaging/prometheus/alerts.yml packaging/grafana/dashboard.json \
	  $(AT)/share/doc/metadataproxy

# What is there is asked of `install`, so that the files have one list. The settings stay.
uninstall:
	rm -rf build/uninstall
	$(MAKE) --no-print-directory install DESTDIR=$(CURDIR)/build/uninstall >/dev/null
	cd build/uninstall && find . ! -type d ! -path '.$(SYSCONFDIR)/*' -printf '$(DESTDIR)/%P\0' | xargs -0 rm -f
	rmdir $(AT)/share/doc/metadataproxy 2>/dev/null || true

# A fixed mode for files as well as for directories: the builder's umask is not part of the source.
STAGE = umask 022; rm -rf build/$@ && mkdir -p build/$@ dist && $(MAKE) --no-print-directory install \
  DESTDIR=$(CURDIR)/build/$@/root PREFIX=/usr NODE=/usr/bin/node >/dev/null

deb: build/packaging ## Make dist/metadataproxy_VERSION_all.deb (dpkg-deb)
	$(STAGE) UNITDIR=/lib/systemd/system ZSHDIR=/usr/share/zsh/vendor-completions
	packaging/deb/build build/deb/root $(VERSION) dist/metadataproxy_$(VERSION)_all.deb

rpm: build/packaging ## Make dist/metadataproxy-VERSION-1.noarch.rpm (rpmbuild)
	$(STAGE)
	packaging/rpm/build build/rpm $(VERSION) dist/metadataproxy-$(VERSION)-1.noarch.rpm

IMAGE ?= metadataproxy:$(VERSION)
# The images that the Dockerfile builds on; empty is what stands there.
NODE_IMAGE ?=
BASE_IMAGE ?=
image: build/packaging ## Build the image IMAGE (metadataproxy:VERSION), by docker
	$(STAGE)
	cp packaging/image/Dockerfile build/image/
	docker build --tag $(IMAGE) $(if $(NODE_IMAGE),--build-arg NODE_IMAGE=$(NODE_IMAGE)) \
	  $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) build/image

DIST = metadataproxy-$(VERSION)
dist: build/packaging ## Make dist/metadataproxy-VERSION.tar.gz, a tree to unpack at / (PREFIX=/usr/local), and checksums
	umask 022; rm -rf build/dist && mkdir -p build/dist dist && \
	  $(MAKE) --no-print-directory install DESTDIR=$(CURDIR)/build/dist/$(DIST) >/dev/null && \
	  cd build/dist/$(DIST) && find . -type f -printf '%P\n' | LC_ALL=C sort >../files && \
	  xargs sha256sum <../files >SHA256SUMS
	tar --create --directory build/dist --sort=name --format=gnu --owner=0 --group=0 --numeric-owner \
	  --mtime=@$(SOURCE_DATE_EPOCH) $(DIST) | gzip -9n >dist/$(DIST).tar.gz
	cd dist && sha256sum $(DIST).tar.gz >$(DIST).tar.gz.sha256
