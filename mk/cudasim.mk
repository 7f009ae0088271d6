# cudasim.mk - the simulator (tests/cudasim) and the plugin built for it.
#
#   make cudasim    build/<mode>/cudasim/{fast,checked}/: the simulated libraries with the real sonames, and
#                   libquern_cuda.so from the same kernels/cuda that nvcc compiles
#
# Only the CUDA headers are needed (scripts/cuda-home finds them).
CUDA_INCLUDE = $(addsuffix /include,$(CUDA_HOME_FOUND))

ifeq ($(origin CXX),default)
CXX := $(filter ccache,$(CC)) g++
endif
SIM := $(BUILD)/cudasim
SIM_KINDS := fast checked
# The simulated libraries by the beginnings of their files' names; the rest of tests/cudasim is the engine, which is
# libcudart.
SIM_SRC := $(call find-c,tests/cudasim/*.cpp)
SIM_BLAS := $(filter tests/cudasim/blas%,$(SIM_SRC))
SIM_DNN := $(filter tests/cudasim/dnn%,$(SIM_SRC))
SIM_NCCL := $(filter tests/cudasim/nccl%,$(SIM_SRC))
SIM_ENGINE := $(filter-out $(SIM_BLAS) $(SIM_DNN) $(SIM_NCCL),$(SIM_SRC))
SIM_LIBS := libcudart.so.13 $(if $(SIM_BLAS),libcublasLt.so.13) $(if $(SIM_DNN),libcudnn.so.9) \
            $(if $(SIM_NCCL),libnccl.so.2)
# Wrong and right kernels that test the simulator itself.
SIM_TEST_CU := $(call find-c,tests/cudasim/*.cu)

# The plugin, and what it needs of core.
SIM_CU := $(call find-c,kernels/cuda/*.cu)
SIM_C := $(call find-c,kernels/cuda/*.c) $(CUDA_CORE)

cudasim: ## CUDA kernels on the CPU: build the simulator and the plugin for it (needs the CUDA headers)
ifeq ($(CUDA_HOME_FOUND),)
	@echo "cudasim: no CUDA headers (set CUDA_HOME, or make cuda-toolchain); not built"
else
cudasim: $(foreach k,$(SIM_KINDS),$(SIM_LIBS:%=$(SIM)/$(k)/%) $(SIM)/$(k)/libquern_cuda.so \
           $(if $(SIM_TEST_CU),$(SIM)/$(k)/libsimtests.so))
endif

SIM_WARN := -Wall -Wextra -Wshadow $(if $(filter 1,$(DEVELOPER)),-Werror)
SIM_CXXFLAGS = -std=c++20 -g -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -fno-threadsafe-statics \
               -ffile-prefix-map=$(CURDIR)=. -isystem $(CUDA_INCLUDE)
# Kernels: nvcc contracts a * b + c by default and so may the host compiler; it does not without -mfma.
# Their warnings are nvcc's business.
SIM_KERNEL_FLAGS := -x c++ -w -fno-strict-aliasing -Itests/cudasim
# The checked build uses the compiler's ThreadSanitizer and UBSan instrumentation with hooks of our own: every load
# and store calls shadow.cpp. The sanitizers' libraries are not linked.
SIM_OPT_fast := -O2
SIM_OPT_checked := -O1 -fsanitize=thread,alignment,bounds -fno-tree-sra \
                   --param tsan-instrument-func-entry-exit=0 --param tsan-distinguish-volatile=0
SIM_LINK = $(CXX) -shared -Wl,-soname,$(@F) -Wl,-rpath,'$$ORIGIN' -o $@

define sim-rules
$(SIM)/$(1)/%.cpp.o: tests/cudasim/%.cpp $(BUILD)/flags
	@mkdir -p $$(@D)
	$$(call say,CXX,$$<)
	$(Q)$$(CXX) $$(SIM_CXXFLAGS) $$(SIM_WARN) -O2 -DCUDASIM_CHECKED=$(if $(filter checked,$(1)),1,0) -MMD -MP -c $$< -o $$@
$(SIM)/$(1)/%.cu.o: tests/cudasim/%.cu $(BUILD)/flags
	@mkdir -p $$(@D)
	$$(call say,CXX,$$<)
	$(Q)$$(CXX) $$(SIM_CXXFLAGS) $$(SIM_OPT_$(1)) $$(SIM_KERNEL_FLAGS) -MMD -MP -c $$< -o $$@
$(SIM)/$(1)/kernels/%.cu.o: kernels/cuda/%.cu $(BUILD)/flags
	@mkdir -p $$(@D)
	$$(call say,CXX,$$<)
	$(Q)$$(CXX) $$(SIM_CXXFLAGS) $$(SIM_OPT_$(1)) $$(SIM_KERNEL_FLAGS) -MMD -MP -c $$< -o $$@
$(SIM)/$(1)/libcudart.so.13: $(SIM_ENGINE:tests/cudasim/%=$(SIM)/$(1)/%.o)
	$$(call say,LINK,$$@)
	$(Q)$$(SIM_LINK) $$^ -lpthread -ldl
	$(Q)ln -sf $$(@F) $$(@D)/libcudart.so
$(SIM)/$(1)/libcublasLt.so.13: $(SIM_BLAS:tests/cudasim/%=$(SIM)/$(1)/%.o) | $(SIM)/$(1)/libcudart.so.13
	$$(call say,LINK,$$@)
	$(Q)$$(SIM_LINK) $$^ -L$$(@D) -lcudart
	$(Q)ln -sf $$(@F) $$(@D)/libcublasLt.so
$(SIM)/$(1)/libcudnn.so.9: $(SIM_DNN:tests/cudasim/%=$(SIM)/$(1)/%.o) | $(SIM)/$(1)/libcudart.so.13
	$$(call say,LINK,$$@)
	$(Q)$$(SIM_LINK) $$^ -L$$(@D) -lcudart
	$(Q)ln -sf $$(@F) $$(@D)/libcudnn.so
$(SIM)/$(1)/libnccl.so.2: $(SIM_NCCL:tests/cudasim/%=$(SIM)/$(1)/%.o) | $(SIM)/$(1)/libcudart.so.13
	$$(call say,LINK,$$@)
	$(Q)$$(SIM_LINK) $$^ -L$$(@D) -lcudart -lpthread -lrt
	$(Q)ln -sf $$(@F) $$(@D)/libnccl.so
$(SIM)/$(1)/libsimtests.so: $(SIM_TEST_CU:tests/cudasim/%=$(SIM)/$(1)/%.o) | $(SIM)/$(1)/libcudart.so.13
	$$(call say,LINK,$$@)
	$(Q)$$(SIM_LINK) $$^ -L$$(@D) -lcudart
$(SIM)/$(1)/libquern_cuda.so: $(SIM_CU:kernels/cuda/%=$(SIM)/$(1)/kernels/%.o) $(SIM_C:%.c=$(SIM)/host/%.o) Makefile | $(SIM_LIBS:%=$(SIM)/$(1)/%)
	$$(call say,LINK,$$@)
	$(Q)$$(SIM_LINK) -Wl,-z,defs $$(filter %.o,$$^) -L$$(@D) -Wl,--no-as-needed -lcudart $(if $(SIM_BLAS),-lcublasLt) \
	    $(if $(SIM_DNN),-lcudnn) -Wl,--as-needed -lm -ldl
endef
$(foreach k,$(SIM_KINDS),$(eval $(call sim-rules,$(k))))

# The host files of the plugin: the same C11 as for a GPU.
$(SIM)/host/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -isystem $(CUDA_INCLUDE) -MMD -MP -c $< -o $@

# Tests that call the libraries themselves.
$(BUILD)/tests/cudasim/%.o $(BUILD)/tests/cuda/%.o: ALL_CFLAGS += $(if $(CUDA_HOME_FOUND),-isystem $(CUDA_INCLUDE))

.PHONY: cudasim
