# Quern: see README.md.  make | make demo | make test | make help
#
# No recursion into rooms and no list of files: every room's *.c is found by wildcard, so that adding an
# operator, a test or a fuzz target never touches this file. Each MODE has its own build/ directory.
MODE ?= release
BUILD ?= build/$(MODE)
ifeq ($(origin CC),default)
CC := gcc
endif
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share
VERSION := $(shell sed -n 's/^\#define QN_VERSION "\(.*\)"/\1/p' include/quern/base.h)
SONAME := libquern.so.$(firstword $(subst ., ,$(VERSION)))
JOBS ?= $(shell nproc)
SECONDS ?= 600
Q := $(if $(V),,@)
say = @$(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),:,printf '  %-5s %s\n' $(1) $(2))

# ---- flags ---------------------------------------------------------------------------------------

# libFuzzer is clang's, whose OpenMP may be absent: the fuzz build has one thread and an omp.h that says so.
# Warnings are the other builds' business. oneDNN brings gcc's OpenMP runtime.
ifeq ($(MODE),fuzz)
override CC := $(filter ccache,$(CC)) clang
OMP := -w -Itests/fuzz
OMP_LIB := -lgomp
else
OMP := -fopenmp
endif
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wdouble-promotion -Wmissing-prototypes \
        -Wstrict-prototypes -Wundef -Wwrite-strings
ifeq ($(DEVELOPER),1)
WARN += -Werror
endif
# CFLAGS is the user's: what stands here is only its default for each mode.
OPT_release := -O2 -g
OPT_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT_ubsan := -O1 -g -fsanitize=undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT_fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
CFLAGS ?= $(OPT_$(MODE))
# Kernels are loops: -O3 lets the compiler vectorise those whose trip count it does not know, and a comparison may
# become a select only if it cannot trap (nobody looks at floating-point exception flags).
KERNEL_release := -O3 -fno-trapping-math
# Hardening that costs nothing measurable. Not under sanitizers, which intercept the same functions. A library too must
# have all that it calls: a kernel of the roll call that nobody has written is an error of the link.
HARDEN_release := -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
HARDEN_LD_release := -Wl,-z,relro,-z,now,-z,noexecstack,-z,defs
# The prefix map keeps the place of the checkout out of the objects, so that builds are reproducible.
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE $(WARN) $(CFLAGS) $(HARDEN_$(MODE)) $(OMP) -fPIC \
             -fvisibility=hidden -fno-math-errno -ffile-prefix-map=$(CURDIR)=.
ALL_LDFLAGS = $(CFLAGS) $(HARDEN_LD_$(MODE)) $(LDFLAGS) $(filter -fopenmp,$(OMP)) $(OMP_LIB)
LIBS := -ldl -ldnnl -ljansson -lpng -lz -lm -lpthread

# ---- files ---------------------------------------------------------------------------------------

ROOMS := core core/ops kernels layers optim data train plot
find-c = $(sort $(wildcard $(1)))
LIB_SRC := $(call find-c,$(addsuffix /*.c,$(ROOMS)))
CPU_SRC := $(call find-c,kernels/cpu/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o) $(CPU_SRC:%.c=$(BUILD)/%.f32.o) $(CPU_SRC:%.c=$(BUILD)/%.f64.o)
CLI_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(call find-c,cli/*.c))
LIB_A := $(BUILD)/libquern.a
LIB_SO := $(BUILD)/libquern.so.$(VERSION)
# One program per tests/<room>/test_*.c; the room's other *.c are an archive that each of them links.
TEST_SRC := $(call find-c,tests/*/test_*.c)
TESTS := $(TEST_SRC:%.c=$(BUILD)/%)
FUZZ_SRC := $(call find-c,tests/fuzz/fuzz_*.c)
FUZZERS := $(FUZZ_SRC:%.c=$(BUILD)/%)
TEST_AID := $(filter-out $(TEST_SRC) $(FUZZ_SRC),$(call find-c,tests/*/*.c))
BENCH_SRC := $(call find-c,benchmarks/*/*.c)
BENCHES := $(addprefix $(BUILD)/,$(filter-out cases,$(basename $(notdir $(BENCH_SRC)))))
EXAMPLES := $(patsubst %.c,$(BUILD)/%,$(call find-c,examples/*.c))

# ---- targets -------------------------------------------------------------------------------------

all: $(LIB_A) $(LIB_SO) $(if $(CLI_OBJ),$(BUILD)/quern) ## build the library and the command

demo: ## train a network on Fashion-MNIST and draw the pictures (sets itself up)
	$(Q)scripts/setup demo
	$(Q)$(MAKE) --no-print-directory -s -j$(JOBS) all
	$(Q)scripts/demo $(BUILD)

test: ## build and run every test (sets itself up); FILTER=name selects
	$(Q)scripts/setup test
	$(Q)$(MAKE) --no-print-directory -s -j$(JOBS) all tests benches $(if $(filter release,$(MODE)),$(CUDA_TARGETS))
	$(Q)case $(BUILD) in *release) scripts/fuzz --build-only ;; esac
	$(Q)scripts/run-tests --build $(BUILD) $(FILTER)

check: test ## the same as test

test-long: ## the tests, with the long variants too
	$(Q)$(MAKE) --no-print-directory test QN_TEST_LONG=1

asan ubsan: ## the tests under AddressSanitizer and UBSan, or UBSan alone
	$(Q)$(MAKE) --no-print-directory test MODE=$@

bars: all tests benches $(CUDA_TARGETS) ## measure everything that Quern promises and print a table of it
	$(Q)scripts/bars --build $(BUILD)

bench: bench-steps ## all benchmarks

bench-steps: ## training steps of Quern and PyTorch in turn (makes a venv, downloads PyTorch)
	$(Q)scripts/setup bench
	$(Q)$(MAKE) --no-print-directory -s -j$(JOBS) benches
	$(Q)scripts/bench-venv build/bench-venv
	$(Q)build/bench-venv/bin/python benchmarks/steps/compare.py --build $(BUILD)

parity: $(BUILD)/tests/ops/test_parity ## which kernel variants, gradient and tests each operator has
	$(Q)$< --report

fuzz: ## fuzz every reader of files for SECONDS=600 each
	$(Q)scripts/setup test
	$(Q)scripts/fuzz --seconds $(SECONDS) $(FILTER)

lint: ## house rules: room boundaries, banned calls, lengths, error codes, format
	$(Q)scripts/setup lint
	$(Q)scripts/lint
	$(Q)scripts/format --check

format: ## clang-format every source file in place
	$(Q)scripts/setup lint
	$(Q)scripts/format

install: all ## install under PREFIX=/usr/local (DESTDIR is honoured)
	$(Q)scripts/install install "$(BUILD)" "$(VERSION)" "$(DESTDIR)" "$(PREFIX)" "$(BINDIR)" \
	    "$(LIBDIR)" "$(INCLUDEDIR)" "$(DATADIR)"

uninstall: ## remove what install put there
	$(Q)scripts/install uninstall "$(BUILD)" "$(VERSION)" "$(DESTDIR)" "$(PREFIX)" "$(BINDIR)" \
	    "$(LIBDIR)" "$(INCLUDEDIR)" "$(DATADIR)"

clean: ## remove everything that was built
	rm -rf build

help: ## this list
	@sed -n 's/^\([a-z][a-z -]*\):.*## \(.*\)/\1\t\2/p' Makefile mk/*.mk | \
	    while IFS="$$(printf '\t')" read -r t d; do printf '  make %-12s %s\n' "$$t" "$$d"; done
	@echo '  V=1 shows the commands; DEVELOPER=1 makes warnings errors; MODE=release|asan|ubsan'

tests: $(TESTS)
fuzzers: $(FUZZERS)
benches: $(BENCHES)
examples: $(EXAMPLES)

# Where there is a CUDA toolkit, its plugin and the simulator's belong to what is tested.
CUDA_TARGETS = $(if $(CUDA_HOME_FOUND),cuda cudasim mutants-sample $(BUILD)/bench_kernels)
CUDA_HOME_FOUND := $(shell CUDA_HOME='$(CUDA_HOME)' scripts/cuda-home 2>/dev/null)
parity: $(if $(CUDA_HOME_FOUND),cudasim)
# What the plugin needs of core, in its own copy: it must load beside any build of libquern.
CUDA_CORE := core/base.c core/dtype.c core/utf8.c
include $(wildcard mk/*.mk)

# ---- rules ---------------------------------------------------------------------------------------

$(LIB_A): $(LIB_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@; $(AR) rcsD $@ $^
$(LIB_SO): $(LIB_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,$(SONAME) -o $@ $^ $(LIBS)
	$(Q)ln -sf $(@F) $(BUILD)/$(SONAME); ln -sf $(SONAME) $(BUILD)/libquern.so
$(BUILD)/quern: $(CLI_OBJ) $(LIB_A)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

.SECONDEXPANSION:
# tests/cuda runs the cases of tests/ops.
room-aid = $(patsubst %.c,$(BUILD)/%.o,$(filter tests/lib/% $(dir $(1))% \
             $(if $(filter tests/cuda/%,$(1)),tests/ops/%),$(TEST_AID)))
$(TESTS): $(BUILD)/%: $(BUILD)/%.o $$(call room-aid,$$*) $(LIB_A)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) -lcmocka -ldl
# A benchmark is one program per bench_*.c or other file; cases.c beside it belongs to it.
bench-obj = $(patsubst %.c,$(BUILD)/%.o,$(filter %/$(1).c,$(BENCH_SRC)) $(wildcard $(dir $(filter %/$(1).c,$(BENCH_SRC)))cases.c))
$(FUZZERS): $(BUILD)/%: $(BUILD)/%.o $(LIB_A)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)
$(BENCHES): $(BUILD)/%: $$(call bench-obj,$$*) $(LIB_A)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
$(EXAMPLES): $(BUILD)/%: $(BUILD)/%.o $(LIB_A)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
$(BUILD)/examples/%.o: ALL_CFLAGS += -Iinclude

$(BUILD)/%.f32.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) $(KERNEL_$(MODE)) -DREAL=float -DKIND=f32 -MMD -MP -c $< -o $@
$(BUILD)/%.f64.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(KERNEL_$(MODE)) -DREAL=double -DKIND=f64 -MMD -MP -c $< -o $@
$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# Objects made with other flags are made again; warnings do not change an object.
FLAGS := $(CC) $(CFLAGS) $(HARDEN_$(MODE)) $(KERNEL_$(MODE)) $(VERSION)
$(BUILD)/flags: force
	@mkdir -p $(@D)
	@printf '%s\n' '$(FLAGS)' | cmp -s - $@ || printf '%s\n' '$(FLAGS)' > $@

.PHONY: all demo test check test-long asan ubsan bars bench bench-steps parity fuzz lint format install \
        uninstall clean help tests fuzzers benches examples force
.SECONDARY:
ifneq ($(QN_TEST_LONG),)
export QN_TEST_LONG
endif
export CC DEVELOPER
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
