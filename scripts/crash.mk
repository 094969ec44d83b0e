# The crash-state tester of the storage engine.
extra: $(BUILD)/crash

$(BUILD)/crash: $(call objects,$(call folder,tests/crash)) $(LIB)
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

crash: $(BUILD)/crash
	$(BUILD)/crash --states $(STATES)
