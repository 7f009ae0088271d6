/* count.c - counting allocations of the whole process. The command's own malloc and its kin come before glibc's, for
 * every library that is loaded, and hand on to glibc's; free stays glibc's. */
#include "planning.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *ptr, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static atomic_bool counting;
static atomic_llong calls;

static void count(void)
{
    if (atomic_load_explicit(&counting, memory_order_relaxed))
        atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
}

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
    atomic_store(&calls, 0);
    atomic_store(&counting, true);
}

int64_t cli_count_stop(void)
{
    atomic_store(&counting, false);
    return atomic_load(&calls);
}

#else

void cli_count_start(void) {}
int64_t cli_count_stop(void) { return -1; }

#endif
