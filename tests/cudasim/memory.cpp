/* memory.cpp - simulated device memory: which addresses belong to which allocation of which device.
 *
 * Every device has a range of addresses of its own. Allocations follow each other in it and no address is given
 * twice, so that the use of freed memory cannot go unseen. New memory holds 0xFF in every byte, a NaN in f32, f16 and
 * bf16. Pinned host memory is registered too. */
#include "memory.h"
#include "fiber.h"
#include <map>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

namespace cudasim
{

/* An allocation begins 256 bytes into a page: no pointer is better aligned than cudaMalloc promises. */
static const size_t PAGE = 4096, OFFSET = 256, SPAN = (size_t)256 << 30;

static char *arena;
static size_t top[MAX_DEVICES];
static size_t used[MAX_DEVICES];
static std::map<char *, Allocation> allocations;
static uint64_t made;
static int opened;

static void reserve()
{
    if (arena) return;
    /* The same addresses in every run, where they are free. */
    arena = (char *)mmap((void *)0x200000000000, SPAN * MAX_DEVICES,
                         settings.protect ? PROT_NONE : PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED) fatal("no addresses for the simulated device memory");
    madvise(arena, SPAN * MAX_DEVICES, MADV_HUGEPAGE); /* changing the protection of few large pages is quick */
    for (int d = 0; d < MAX_DEVICES; d++) top[d] = PAGE;
    set_traps();
}

bool in_device_arena(const void *p)
{
    return arena && (const char *)p >= arena && (const char *)p < arena + SPAN * MAX_DEVICES;
}
int device_of(const void *p) { return in_device_arena(p) ? (int)((size_t)((const char *)p - arena) / SPAN) : -1; }

static void set_access(int protection)
{
    for (int d = 0; d < MAX_DEVICES; d++)
        if (top[d] > PAGE) mprotect(arena + SPAN * (size_t)d, top[d], protection);
}
void open_memory()
{
    if (settings.protect && arena && !opened++) set_access(PROT_READ | PROT_WRITE);
}
void close_memory()
{
    if (settings.protect && arena && !--opened) set_access(PROT_NONE);
}

Allocation *find_allocation(const void *p)
{
    auto i = allocations.upper_bound((char *)p);
    if (i == allocations.begin()) return nullptr;
    Allocation *a = &(--i)->second;
    return (const char *)p <= a->p + a->bytes ? a : nullptr;
}

char *device_take(int device, size_t bytes)
{
    reserve();
    size_t room = (OFFSET + bytes + PAGE) / PAGE * PAGE; /* at least one byte of no allocation follows */
    if (bytes > settings.memory || used[device] + room > settings.memory || top[device] + room > SPAN) return nullptr;
    char *p = arena + SPAN * (size_t)device + top[device] + OFFSET;
    if (settings.protect && opened) mprotect(p - OFFSET, room, PROT_READ | PROT_WRITE);
    top[device] += room;
    used[device] += room;
    open_memory();
    memset(p - OFFSET, 0xff, room);
    close_memory();
    allocations[p] = Allocation{ p, bytes, device, false, made++ };
    return p;
}

void device_give(Allocation *a)
{
    size_t room = (OFFSET + a->bytes + PAGE) / PAGE * PAGE;
    used[a->device] -= room;
    a->freed = true;
    if (checked) shadow_valid(a->p, a->bytes, false);
    /* The pages go back to the system; the addresses stay taken. */
    open_memory();
    madvise(a->p - OFFSET, room, MADV_DONTNEED);
    close_memory();
}

size_t device_used(int device) { return used[device]; }

void *pinned_take(size_t bytes)
{
    void *p;
    if (posix_memalign(&p, PAGE, bytes ? bytes : 1)) return nullptr;
    memset(p, 0xff, bytes);
    allocations[(char *)p] = Allocation{ (char *)p, bytes, -1, false, made++ };
    return p;
}
void pinned_give(Allocation *a)
{
    char *p = a->p;
    allocations.erase(p);
    free(p);
}

size_t live_allocations()
{
    size_t n = 0;
    for (const auto &entry : allocations) n += !entry.second.freed;
    return n;
}

const Allocation *allocation_in(const void *p, size_t page)
{
    char *begin = (char *)((uintptr_t)p / page * page);
    auto i = allocations.lower_bound(begin + page);
    if (i == allocations.begin()) return nullptr;
    const Allocation *a = &(--i)->second;
    return a->p + a->bytes > begin ? a : nullptr;
}

bool device_range(const void *p, size_t bytes, int device)
{
    const Allocation *a = find_allocation(p);
    return a && !a->freed && a->device == device && (const char *)p + bytes <= a->p + a->bytes;
}

} // namespace cudasim
