# The simulator compiles base/ and core/ on its own, because planted bugs exist only in its build.
SIM_SRC := $(sort $(wildcard base/*.c) $(wildcard core/*.c) $(wildcard tests/sim/*.c))
SIM_OBJ := $(patsubst %.c,$(BUILD)/obj-sim/%.o,$(SIM_SRC))

$(BUILD)/obj-sim/%.o: %.c | check-headers
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC    $< (sim)")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -DCLOCKWISE_PLANTED_BUGS -MMD -MP -c -o $@ $<

$(BUILD)/sim: $(SIM_OBJ)
	$(if $(V),,@echo "  LD    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

-include $(SIM_OBJ:.o=.d)
