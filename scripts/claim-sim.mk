# Balance and movement of owner tables: a program of its own, because it is neither a test nor a bench.
$(BUILD)/claim-sim: $(BUILD)/obj/tests/bench/claim-sim.o $(LIB)
	$(if $(V),,@echo "  LD    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

extra: $(BUILD)/claim-sim
