# build/gossip-sim: core/member*.c alone, in virtual time, at any size. It is compiled with short names,
# so that five thousand tables of five thousand members fit into memory.
GOSSIP_SRC := $(sort $(wildcard base/*.c) $(wildcard core/*.c) ipc/msg_codec.c ipc/msg_check.c $(wildcard tests/gossip/*.c))
GOSSIP_OBJ := $(patsubst %.c,$(BUILD)/obj-gossip/%.o,$(GOSSIP_SRC))

$(BUILD)/obj-gossip/%.o: %.c | check-headers
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC    $< (gossip-sim)")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -DCLOCKWISE_SHORT_NAMES -DCLOCKWISE_PLANTED_BUGS -MMD -MP -c -o $@ $<

$(BUILD)/gossip-sim: $(GOSSIP_OBJ)
	$(if $(V),,@echo "  LD    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

-include $(GOSSIP_OBJ:.o=.d)
