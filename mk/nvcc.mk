# nvcc.mk - the CUDA plugin for real GPUs: build/<mode>/libquern_cuda.so.  make cuda | make cuda-toolchain
#
# nvcc compiles only the .cu files, once for all architectures; what it made on the way stays in cuda/keep, where
# scripts/cubins finds the machine code of each architecture. The host's C files are compiled by $(CC).
CUDA_ARCHS ?= 80 86 89 90 100 120
CUDA_BUILD := $(BUILD)/cuda
CUDA_CU := $(call find-c,kernels/cuda/*.cu)
CUDA_C := $(call find-c,kernels/cuda/*.c)
CUDA_OBJ := $(CUDA_CU:kernels/cuda/%.cu=$(CUDA_BUILD)/%.cu.o) $(CUDA_C:kernels/cuda/%.c=$(CUDA_BUILD)/%.o) \
            $(CUDA_CORE:%.c=$(BUILD)/%.o)
CUDA_PLUGIN := $(BUILD)/libquern_cuda.so
NVCC_ARCHS = $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
             -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS))
# Spills, local memory and double precision are errors on every architecture.
NVCC_HOST := -fPIC,-fvisibility=hidden,-Wall,-Wextra,-Wno-missing-field-initializers
NVCC_HOST := $(NVCC_HOST),-Wno-deprecated-enum-enum-conversion
NVCC_FLAGS = -std=c++20 -O3 -lineinfo -Werror all-warnings -Xcompiler $(NVCC_HOST) \
             -Xptxas -warn-spills,-warn-lmem-usage,-warn-double-usage,-Werror $(NVCC_ARCHS)
# wgmma and TMA exist on sm_90a only. With PTX beside it nvcc names the cubin for its architecture, as scripts/cubins
# wants it.
$(CUDA_BUILD)/gemm_wgmma.cu.o: NVCC_ARCHS = -gencode arch=compute_90a,code=[sm_90a,compute_90a]

cuda: ## build libquern_cuda.so with nvcc (CUDA_ARCHS="80 90" selects)
ifeq ($(CUDA_HOME_FOUND),)
	$(Q)scripts/cuda-home
else
cuda: $(CUDA_PLUGIN)
endif

cuda-toolchain: ## where there is no CUDA toolkit: set one up from PyPI in build/
	$(Q)scripts/setup bench
	$(Q)scripts/cuda-toolchain

$(CUDA_PLUGIN): $(CUDA_OBJ) Makefile
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -shared -o $@ $(filter %.o,$^) -L$(CUDA_HOME_FOUND)/lib64 -lcublasLt -lcudart -lstdc++ -lm -ldl

$(CUDA_BUILD)/%.cu.o: kernels/cuda/%.cu $(CUDA_BUILD)/flags
	@mkdir -p $(CUDA_BUILD)/keep/$*
	$(call say,NVCC,$<)
	$(Q)$(CUDA_HOME_FOUND)/bin/nvcc $(NVCC_FLAGS) --keep --keep-dir $(CUDA_BUILD)/keep/$* -MD -MP -MF $@.d -c $< -o $@
	@rm -f $(CUDA_BUILD)/keep/$*/*.ii $(CUDA_BUILD)/keep/$*/*.cudafe* $(CUDA_BUILD)/keep/$*/*.fatbin*
$(CUDA_BUILD)/%.o: kernels/cuda/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -isystem $(CUDA_HOME_FOUND)/include -MMD -MP -c $< -o $@
$(CUDA_BUILD)/flags: force
	@mkdir -p $(@D)
	@printf '%s\n' '$(NVCC_FLAGS)' | cmp -s - $@ || printf '%s\n' '$(NVCC_FLAGS)' > $@
-include $(wildcard $(CUDA_BUILD)/*.d)
.PHONY: cuda cuda-toolchain

bench-kernels: cuda $(BUILD)/bench_kernels ## ladders of CUDA kernels on this machine's GPU
	$(Q)$(BUILD)/bench_kernels
check-gpu: ## build for this machine's GPU, run every test and benchmark there, write a report
	$(Q)scripts/check-gpu --build $(BUILD)
.PHONY: bench-kernels check-gpu
