# make install: programs, unit, user, manual pages, an example configuration. Nothing is started and
# no user is made: systemd-sysusers does that from the installed file.
SBINDIR    ?= $(PREFIX)/sbin
BINDIR     ?= $(PREFIX)/bin
LIBEXECDIR ?= $(PREFIX)/lib/clockwise
MANDIR     ?= $(PREFIX)/share/man
DOCDIR     ?= $(PREFIX)/share/doc/clockwise
UNITDIR    ?= $(if $(filter /usr,$(PREFIX)),/lib,$(PREFIX)/lib)/systemd/system
SYSUSERDIR ?= $(if $(filter /usr,$(PREFIX)),/usr,$(PREFIX))/lib/sysusers.d

install: check-headers $(addprefix $(BUILD)/,$(PROGRAMS) $(TOOLS))
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBEXECDIR) \
	  $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERDIR) $(DESTDIR)$(DOCDIR) \
	  $(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(MANDIR)/man1
	install -m 755 $(BUILD)/clockwised $(DESTDIR)$(SBINDIR)/
	install -m 755 $(addprefix $(BUILD)/,$(filter-out clockwised,$(PROGRAMS))) $(DESTDIR)$(LIBEXECDIR)/
	$(if $(TOOLS),install -m 755 $(addprefix $(BUILD)/,$(TOOLS)) $(DESTDIR)$(BINDIR)/)
	sed 's|/usr/sbin/|$(SBINDIR)/|' packaging/systemd/clockwised@.service \
	  > $(DESTDIR)$(UNITDIR)/clockwised@.service
	chmod 644 $(DESTDIR)$(UNITDIR)/clockwised@.service
	install -m 644 packaging/sysusers.d/clockwise.conf $(DESTDIR)$(SYSUSERDIR)/
	install -m 644 docs/man/*.8 $(DESTDIR)$(MANDIR)/man8/
	install -m 644 docs/man/*.1 $(DESTDIR)$(MANDIR)/man1/
	install -m 644 docs/configuration.md docs/security.md packaging/clockwise.conf.example LICENSE $(DESTDIR)$(DOCDIR)/
