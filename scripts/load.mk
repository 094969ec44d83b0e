# The load generator of scripts/bench. etcd's protocol needs nghttp2; without it the rest is built.
LOAD_OBJ  := $(call objects,$(sort $(wildcard tests/load/*.c)))
LOAD_LIBS := $(shell printf '\043include <nghttp2/nghttp2.h>\n' | $(CC) -E -x c - >/dev/null 2>&1 && echo -lnghttp2)

$(BUILD)/bench-load: $(LOAD_OBJ) $(LIB)
	$(if $(V),,@echo "  LD    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS) $(LOAD_LIBS)

extra: $(BUILD)/bench-load
