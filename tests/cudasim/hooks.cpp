/* hooks.cpp - what the compiler's instrumentation calls (-fsanitize=thread,alignment,bounds), answered by the shadow
 * instead of by the sanitizers' libraries. */
#include "engine.h"
#include <string.h>

using namespace cudasim;

#define EXPORT extern "C" __attribute__((visibility("default")))
#define SEE(p, bytes, kind) \
    do { \
        if (block.running) shadow_access(p, bytes, kind, block.thread, __builtin_return_address(0)); \
    } while (0)
#define HOOK(name, bytes, kind) \
    EXPORT void name(void *p); \
    void name(void *p) { SEE(p, bytes, kind); }
#define HOOKS(bytes) \
    HOOK(__tsan_read##bytes, bytes, READ) \
    HOOK(__tsan_write##bytes, bytes, WRITE) \
    HOOK(__tsan_unaligned_read##bytes, bytes, READ) \
    HOOK(__tsan_unaligned_write##bytes, bytes, WRITE) \
    HOOK(__tsan_volatile_read##bytes, bytes, READ) \
    HOOK(__tsan_volatile_write##bytes, bytes, WRITE)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

#define RANGE(name, kind) \
    EXPORT void name(void *p, size_t bytes); \
    void name(void *p, size_t bytes) { SEE(p, bytes, kind); }
RANGE(__tsan_read_range, READ)
RANGE(__tsan_write_range, WRITE)

EXPORT void __tsan_init();
void __tsan_init() {}
EXPORT void __tsan_func_entry(void *);
void __tsan_func_entry(void *) {}
EXPORT void __tsan_func_exit();
void __tsan_func_exit() {}
EXPORT void __tsan_vptr_update(void **, void *);
void __tsan_vptr_update(void **, void *) {}
EXPORT void __tsan_vptr_read(void **);
void __tsan_vptr_read(void **) {}

/* ---- UBSan ------------------------------------------------------------------------------------------------- */

struct Place {
    const char *file;
    uint32_t line, column;
};
struct TypeMismatch {
    Place place;
    const void *type;
    unsigned char log2_alignment, access;
};

static void fault(cudaError_t error)
{
    if (!block.running) {
        flush_findings();
        return;
    }
    block.error = error;
    stop_kernel();
}

EXPORT void __ubsan_handle_type_mismatch_v1(void *data, uintptr_t p);
void __ubsan_handle_type_mismatch_v1(void *data, uintptr_t p)
{
    const TypeMismatch *m = (const TypeMismatch *)data;
    report("misaligned address %p at %s:%u; the access needs a multiple of %u", (void *)p, m->place.file, m->place.line,
           1u << m->log2_alignment);
    fault(cudaErrorMisalignedAddress);
}
EXPORT void __ubsan_handle_out_of_bounds(void *data, uintptr_t index);
void __ubsan_handle_out_of_bounds(void *data, uintptr_t index)
{
    const Place *place = (const Place *)data;
    report("index %ld out of the array's bounds at %s:%u", (long)index, place->file, place->line);
    fault(cudaErrorIllegalAddress);
}
