# Clockwise. GNU make, no configure step. `make help` lists the goals.
#
# Every folder's *.c is found by wildcard. A process folder becomes the program build/<name>; all
# shared folders become build/libclockwise.a; a process folder's files other than main.c are linked
# into its program and into the tests that name it (tests/unit/<folder>_*.c).
VERSION  := 0.1.0
PREFIX   ?= /usr/local
DESTDIR  ?=
SAN      ?=
SEEDS    ?= 1-200
STATES   ?= 2000

# A comma, for where one would separate arguments.
, := ,
BUILD    := build$(if $(SAN),/$(subst $(,),-,$(SAN)))
ifeq ($(origin CC),default)
CC       := gcc
endif
V        ?=
Q        := $(if $(V),,@)
WARN     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
CFLAGS   ?= -O2 -g
CPPFLAGS += -I. -D_GNU_SOURCE -DCLOCKWISE_VERSION='"$(VERSION)"'
CFLAGS   += -std=gnu11 -fno-omit-frame-pointer -pthread $(WARN)
LDFLAGS  += -pthread
ifneq ($(SAN),)
CFLAGS   += -fsanitize=$(SAN) -fno-sanitize-recover=all
LDFLAGS  += -fsanitize=$(SAN)
endif

SHARED   := base core ipc shm conf store
LIB      := $(BUILD)/libclockwise.a
LIBS     := -llmdb -lmsgpackc -linih -lssl -lcrypto -lm
HEADERS  := ini.h:libinih-dev lmdb.h:liblmdb-dev msgpack.h:libmsgpack-dev cmocka.h:libcmocka-dev xxhash.h:libxxhash-dev openssl/evp.h:libssl-dev

lib_src  := $(foreach d,$(SHARED),$(sort $(wildcard $(d)/*.c)))
objects   = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
folder    = $(sort $(wildcard $(1)/*.c))
body      = $(filter-out %/main.c,$(call folder,$(1)))

PROGRAMS := clockwised clockwise-worker clockwise-gossipd clockwise-antientropyd
clockwised_DIR              := supervisor
clockwise-worker_DIR        := workers
clockwise-gossipd_DIR       := gossipd
clockwise-antientropyd_DIR  := antientropyd
# tools/clockwise.c is the program build/clockwise, tools/NAME.c the program build/clockwise-NAME;
# tools/lib_*.c are linked into all of them.
TOOLS    := clockwise $(patsubst tools/%.c,clockwise-%,$(filter-out tools/lib_% tools/clockwise.c,$(wildcard tools/*.c)))
BENCHES  := $(patsubst tests/bench/%.c,%,$(wildcard tests/bench/bench-*.c))
UNIT     := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/unit/*.c)))

.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
.PHONY: all help deps check-headers lint test test-asan test-units asan sim crash bench fuzz demo install clean format

all: check-headers $(addprefix $(BUILD)/,$(PROGRAMS) $(TOOLS) sim gossip-sim $(BENCHES)) $(UNIT) extra

.PHONY: extra
extra:

help:
	@echo 'make            build everything into build/'
	@echo 'make demo       install what is missing, start three nodes, use them, break one, stop them'
	@echo 'make test       install what is missing, build, run all tests'
	@echo 'make lint       formatting, include rules, one owner per dangerous thing'
	@echo 'make sim        the simulator over SEEDS=A-B (default $(SEEDS))'
	@echo 'make crash      power cuts of the storage engine, STATES=N (default $(STATES))'
	@echo 'make bench      benchmarks; make fuzz: fuzz targets, FUZZ_SECONDS=N each'
	@echo 'make asan       build with address and undefined sanitizers; make test-asan: test with them'
	@echo 'make install    into DESTDIR and PREFIX (default $(PREFIX))'

# Names the Debian package of every header that the compiler cannot find.
check-headers:
	@missing=; for pair in $(HEADERS); do \
	  printf '#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <setjmp.h>\n#include <%s>\n' $${pair%%:*} \
	    | $(CC) -E -x c - >/dev/null 2>&1 || missing="$$missing $${pair##*:}"; done; \
	if [ -n "$$missing" ]; then echo "missing Debian packages; run: apt-get install -y$$missing" >&2; exit 1; fi

$(BUILD)/obj/%.o: %.c | check-headers
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC    $<")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(LIB): $(call objects,$(lib_src))
	@rm -f $@
	$(Q)ar rcs $@ $^

define program_rule
$(BUILD)/$(1): $(call objects,$(call folder,$($(1)_DIR))) $(LIB)
	$(if $(V),,@echo "  LD    $$@")
	$(Q)$(CC) $(LDFLAGS) -o $$@ $$^ $(LIBS)
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rule,$(p))))

$(BUILD)/clockwise-%: $(BUILD)/obj/tools/%.o $(call objects,$(wildcard tools/lib_*.c)) $(LIB)
	$(if $(V),,@echo "  LD    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/clockwise: $(BUILD)/obj/tools/clockwise.o $(call objects,$(wildcard tools/lib_*.c)) $(LIB)
	$(if $(V),,@echo "  LD    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/bench-%: $(BUILD)/obj/tests/bench/bench-%.o $(LIB)
	$(if $(V),,@echo "  LD    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

# A unit test named FOLDER_subject.c is linked with that process folder's files (without main.c), and
# of these with what it uses only: they come as an archive.
define body_rule
$(BUILD)/lib$(1).a: $(call objects,$(call body,$(1)))
	@rm -f $$@
	$(Q)ar rcs $$@ $$^
endef
BODIES := supervisor workers gossipd antientropyd
$(foreach d,$(BODIES),$(eval $(call body_rule,$(d))))

define unit_rule
$(BUILD)/tests/$(1): $(BUILD)/obj/tests/unit/$(1).o $(patsubst %,$(BUILD)/lib%.a,$(filter $(firstword $(subst _, ,$(1))),$(BODIES))) $(LIB)
	@mkdir -p $$(@D)
	$(if $(V),,@echo "  LD    $$@")
	$(Q)$(CC) $(LDFLAGS) -o $$@ $$^ -lcmocka $(LIBS)
endef
$(foreach t,$(notdir $(UNIT)),$(eval $(call unit_rule,$(t))))

deps:
	@scripts/install-deps

test: deps
	@$(MAKE) --no-print-directory -j2 all
	@scripts/test $(BUILD)

test-units: all
	@scripts/test $(BUILD) unit

asan:
	@$(MAKE) --no-print-directory -j2 SAN=address,undefined all

test-asan: asan
	@scripts/test build/address-undefined

sim: $(BUILD)/sim
	$(BUILD)/sim --seeds $(SEEDS)

demo: deps
	@$(MAKE) --no-print-directory -j2 all
	@scripts/demo

lint:
	@scripts/lint

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

bench: all
	@scripts/bench

clean:
	rm -rf build

-include $(wildcard scripts/*.mk)
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
