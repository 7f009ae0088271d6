/* count.c - counting allocations of the whole process. The command's own malloc and its kin come before glibc's, for
 * every library that is loaded, and hand on to glibc's; free stays glibc's. Who called is told by the return address:
 * the command holds Quern's library itself, all else is others'. */
#include "planning.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *ptr, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

extern const char __executable_start, etext; /* by the linker: where the command's own code begins and ends */

static atomic_bool counting;
static atomic_llong own, others;

static void count_call(const void *caller)
{
    if (!atomic_load_explicit(&counting, memory_order_relaxed)) return;
    bool ours = (uintptr_t)caller >= (uintptr_t)&__executable_start && (uintptr_t)caller < (uintptr_t)&etext;
    atomic_fetch_add_explicit(ours ? &own : &others, 1, memory_order_relaxed);
}
#define count() count_call(__builtin_return_address(0))

QN_API void *malloc(size_t size)
{
    count();
    return __libc_malloc(size);
}

QN_API void *calloc(size_t n, size_t size)
{
    count();
    return __libc_calloc(n, size);
}

QN_API void *realloc(void *ptr, size_t size)
{
    count();
    return __libc_realloc(ptr, size);
}

QN_API void *aligned_alloc(size_t alignment, size_t size)
{
    count();
    return __libc_memalign(alignment, size);
}

QN_API int posix_memalign(void **out, size_t alignment, size_t size)
{
    count();
    if (alignment % sizeof(void *) || (alignment & (alignment - 1)) || alignment == 0) return EINVAL;
    void *ptr = __libc_memalign(alignment, size);
    if (!ptr) return ENOMEM;
    *out = ptr;
    return 0;
}

void cli_count_start(void)
{
    atomic_store(&own, 0);
    atomic_store(&others, 0);
    atomic_store(&counting, true);
}

int64_t cli_count_stop(int64_t *libraries)
{
    atomic_store(&counting, false);
    *libraries = atomic_load(&others);
    return atomic_load(&own);
}

#else

void cli_count_start(void) {}
int64_t cli_count_stop(int64_t *libraries)
{
    *libraries = -1;
    return -1;
}

#endif
