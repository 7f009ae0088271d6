# Quern: see README.md.  make | make demo | make test | make help
MODE ?= release
BUILD ?= build/$(MODE)
CC ?= gcc
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wdouble-promotion -Wmissing-prototypes \
        -Wstrict-prototypes -Wundef -Wwrite-strings
ifeq ($(DEVELOPER),1)
WARN += -Werror
endif
OPT_release := -O2 -g
OPT_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CFLAGS ?= $(OPT_$(MODE))
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE $(WARN) $(CFLAGS) -fopenmp -fPIC -fvisibility=hidden -fno-math-errno
LIBS := -ldnnl -ljansson -lpng -lz -lm -lpthread

ROOMS := core core/ops kernels layers optim data train plot
LIB_SRC := $(wildcard $(addsuffix /*.c,$(ROOMS)))
CPU_SRC := $(wildcard kernels/cpu/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o) $(CPU_SRC:%.c=$(BUILD)/%.f32.o) $(CPU_SRC:%.c=$(BUILD)/%.f64.o)
CLI_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard cli/*.c))
TEST_SRC := $(wildcard tests/*/test_*.c)
TESTS := $(TEST_SRC:%.c=$(BUILD)/%)

all: $(BUILD)/libquern.a $(BUILD)/libquern.so.0 $(if $(CLI_OBJ),$(BUILD)/quern)

$(BUILD)/libquern.a: $(LIB_OBJ)
	@rm -f $@; $(AR) rcs $@ $^
$(BUILD)/libquern.so.0: $(LIB_OBJ)
	$(CC) $(CFLAGS) -shared -fopenmp -Wl,-soname,libquern.so.0 -o $@ $^ $(LIBS)
$(BUILD)/quern: $(CLI_OBJ) $(BUILD)/libquern.a
	$(CC) $(CFLAGS) -fopenmp -o $@ $^ $(LIBS)
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(BUILD)/libquern.a
	$(CC) $(CFLAGS) -fopenmp -o $@ $^ $(LIBS) -lcmocka
$(BUILD)/%.f32.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -DREAL=float -DKIND=f32 -MMD -c $< -o $@
$(BUILD)/%.f64.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -DREAL=double -DKIND=f64 -MMD -c $< -o $@
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -c $< -o $@
tests: $(TESTS)
clean:
	rm -rf build
.PHONY: all tests clean
.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
