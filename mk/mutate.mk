# mutate.mk - the plugin with every mutant of kernels/cuda in it, for scripts/mutate.
#
#   make mutate     each mutant in turn, going on where an earlier run stopped (JOBS=1)
#
# scripts/mutate writes the sources with their mutants; a source that does not change keeps its time. `sample` has the
# mutants of a few files only and the objects of the checked simulator otherwise: make test builds and runs that.
MUTANTS := $(SIM)/mutants
MUTANT_C := $(shell grep -lE 'cudaStreamWaitEvent|cudaEventSynchronize|cudaStreamSynchronize' kernels/cuda/*.c)
MUTANT_SAMPLE := $(shell sed -n 's/^SAMPLE = (\(.*\))/\1/p' scripts/mutate | tr -d '",')
MUTANT_KEPT_C := $(filter-out $(MUTANT_C),$(SIM_C))
MUTANT_ALL := $(SIM_CU:kernels/cuda/%=$(MUTANTS)/%.o) $(MUTANT_C:kernels/cuda/%.c=$(MUTANTS)/%.c.o) \
              $(MUTANT_KEPT_C:%.c=$(SIM)/host/%.o)
MUTANT_SOME := $(filter $(MUTANT_SAMPLE:%=$(MUTANTS)/%.o),$(MUTANT_ALL)) \
               $(patsubst kernels/cuda/%,$(SIM)/checked/kernels/%.o,$(filter-out $(MUTANT_SAMPLE:%=kernels/cuda/%),$(SIM_CU))) \
               $(patsubst %.c,$(SIM)/host/%.o,$(filter-out $(MUTANT_SAMPLE:%=kernels/cuda/%),$(SIM_C)))

mutate: all cudasim $(BUILD)/bench_kernels $(patsubst %,$(BUILD)/tests/cuda/test_%,checked runtime calls tuning) \
        $(MUTANTS)/all/checked/libquern_cuda.so ## take away barriers and bounds tests one by one: the tests must notice
	$(Q)scripts/mutate --build $(BUILD)
mutants-sample: $(MUTANTS)/sample/checked/libquern_cuda.so

$(MUTANTS)/written: scripts/mutate $(wildcard kernels/cuda/*)
	@mkdir -p $(@D)
	$(Q)scripts/mutate --write $(MUTANTS)
	@touch $@
$(MUTANTS)/kernels/cuda/%: $(MUTANTS)/written
	@:
$(MUTANTS)/mutant.c: $(MUTANTS)/written
	@:
$(MUTANTS)/%.cu.o: $(MUTANTS)/kernels/cuda/%.cu $(BUILD)/flags
	$(call say,CXX,$<)
	$(Q)$(CXX) $(SIM_CXXFLAGS) $(SIM_OPT_checked) $(SIM_KERNEL_FLAGS) -MMD -MP -c $< -o $@
$(MUTANTS)/%.c.o: $(MUTANTS)/kernels/cuda/%.c $(BUILD)/flags
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -isystem $(CUDA_INCLUDE) -MMD -MP -c $< -o $@
$(MUTANTS)/mutant.o: $(MUTANTS)/mutant.c
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@
$(MUTANTS)/all/checked/libquern_cuda.so: $(MUTANT_ALL)
$(MUTANTS)/sample/checked/libquern_cuda.so: $(MUTANT_SOME)
$(MUTANTS)/all/checked/libquern_cuda.so $(MUTANTS)/sample/checked/libquern_cuda.so: $(MUTANTS)/mutant.o \
        | $(SIM_LIBS:%=$(SIM)/checked/%)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CXX) -shared -Wl,-soname,$(@F) -Wl,-rpath,'$$ORIGIN/../../../checked' -o $@ $^ -L$(SIM)/checked \
	    -Wl,--no-as-needed -lcudart $(if $(SIM_BLAS),-lcublasLt) $(if $(SIM_DNN),-lcudnn) -Wl,--as-needed -lm -ldl
.PHONY: mutate mutants-sample
