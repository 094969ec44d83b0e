# Fuzz targets: tests/fuzz/fuzz_NAME.c becomes build/fuzz/fuzz_NAME. With clang it is linked with
# libFuzzer and sanitizers; with gcc, or where libFuzzer is missing, with the small driver.
# tests/fuzz/corpus/NAME/ holds seeds. `make fuzz FUZZ_SECONDS=60` runs each for so long.
#
# Warnings are for the ordinary build; with sanitizers gcc finds some that are none.
# A target names what it needs beyond base, core and ipc in fuzz_NAME_SRC.
FUZZ_SECONDS ?= 10
FUZZ_CC      ?= $(shell command -v clang >/dev/null && echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n){return d == 0 && n;}' \
  | clang -x c -fsanitize=fuzzer,address,undefined -o /dev/null - 2>/dev/null && echo clang || echo gcc)
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_FLAGS    = -I. -D_GNU_SOURCE -DCLOCKWISE_VERSION='"$(VERSION)"' -std=gnu11 -O1 -g -pthread \
  -w -fno-sanitize-recover=all

fuzz_resp_SRC := workers/resp_parse.c
fuzz_packet_SRC := gossipd/packet.c
fuzz_acl_SRC  := $(filter-out workers/main.c,$(wildcard workers/*.c)) $(wildcard shm/*.c conf/*.c store/*.c)

define fuzz_rule
build/fuzz/$(1): tests/fuzz/$(1).c tests/fuzz/driver.c $$(wildcard base/*.c core/*.c ipc/*.c) $$($(1)_SRC)
	@mkdir -p build/fuzz
	$$(FUZZ_CC) $$(FUZZ_FLAGS) $$(if $$(filter clang%,$$(FUZZ_CC)),-fsanitize=fuzzer$$(,)address$$(,)undefined,-fsanitize=address$$(,)undefined) \
	  -o $$@ $$(filter-out $$(if $$(filter clang%,$$(FUZZ_CC)),tests/fuzz/driver.c),$$^) $$(LIBS)
endef
$(foreach t,$(FUZZ_TARGETS),$(eval $(call fuzz_rule,$(t))))

fuzz: $(addprefix build/fuzz/,$(FUZZ_TARGETS))
	@for t in $(FUZZ_TARGETS); do echo "$$t:"; mkdir -p build/fuzz/work/$$t; \
	  (cd build/fuzz/work/$$t && mkdir -p found && \
	   ../../$$t -max_total_time=$(FUZZ_SECONDS) $(if $(filter clang%,$(FUZZ_CC)),-verbosity=0 -print_final_stats=1 -max_len=4096) \
	     found $$(ls -d ../../../../tests/fuzz/corpus/$${t#fuzz_} 2>/dev/null)) || exit 1; done

# The bench of the client side needs the workers' files.
$(BUILD)/bench-resp: $(BUILD)/obj/tests/bench/bench-resp.o $(call objects,$(call body,workers)) $(LIB)
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)
