/* shadow.cpp - every load and store of a kernel, in the checked build: is it inside memory that is the kernel's to
 * touch, has somebody written what it reads, and is it ordered with the accesses of other threads? */
#include "shadow.h"
#include "fiber.h"
#include "memory.h"
#include "runtime.h"
#include <link.h>
#include <string.h>

namespace cudasim
{

void touch(const void *p, size_t bytes, Access kind, const void *place)
{
    if (checked && block.running) shadow_access(p, bytes, kind, block.thread, place);
}
void fence(int scope)
{
    if (checked) shadow_fence(scope);
}

/* ---- what the engine tells ------------------------------------------------------------------------------------ */

void shadow_launch() { clock_launch(); }
void shadow_block()
{
    clock_block();
    for (size_t at = 0; at < SHARED_SPAN; at += PAGE_BYTES) {
        Page *page = shared_page(at);
        if (!page->owner) break; /* not used by the last block: owner serves as the mark */
        page->owner = nullptr;
        memset(page->inside, 0, sizeof page->inside);
        memset(page->valid, 0, sizeof page->valid);
        memset(page->in_flight, 0, sizeof page->in_flight);
    }
}

/* Calls f(page, offset in it, bytes) for the pages of a range. */
template <class F> static void each_page(const void *p, size_t bytes, bool make, F f)
{
    uintptr_t at = (uintptr_t)p;
    bool shared = in_shared(p);
    while (bytes) {
        size_t offset = at % PAGE_BYTES, n = PAGE_BYTES - offset;
        if (n > bytes) n = bytes;
        Page *page = shared ? shared_page(at - (uintptr_t)block.shared) : device_page((const void *)at, make);
        if (page) f(page, offset, n);
        at += n;
        bytes -= n;
    }
}

void shadow_shared(char *p, size_t bytes)
{
    static const Allocation used = {};
    size_t last = (size_t)(p + bytes - block.shared);
    for (size_t at = 0; at < last; at += PAGE_BYTES) shared_page(at)->owner = &used;
    each_page(p, bytes, true, [](Page *page, size_t at, size_t n) { map_set(page->inside, at, n, true); });
}

void shadow_barrier() { clock_barrier(); }
void shadow_warp_sync(int warp, uint32_t mask) { clock_warp_sync(warp, mask); }
void shadow_fence(int scope)
{
    if (scope > 0 && block.running) clock_fence(block.thread);
}

void shadow_in_flight(const void *p, size_t bytes)
{
    each_page(p, bytes, true, [](Page *page, size_t at, size_t n) { map_set(page->in_flight, at, n, true); });
}
/* The data arrive now, so for others the write is now too. */
void shadow_delivered(const void *p, size_t bytes)
{
    each_page(p, bytes, true, [](Page *page, size_t at, size_t n) {
        map_set(page->in_flight, at, n, false);
        for (size_t i = at >> page->shift; page->cell && i <= (at + n - 1) >> page->shift; i++)
            page->cell[i].write_clock = clocks.now;
    });
}

void shadow_valid(const void *p, size_t bytes, bool valid)
{
    each_page(p, bytes, valid, [valid](Page *page, size_t at, size_t n) { map_set(page->valid, at, n, valid); });
}

void shadow_copy(const void *dst, const void *src, size_t bytes)
{
    for (size_t i = 0; i < bytes;) {
        const char *s = (const char *)src + i, *d = (const char *)dst + i;
        size_t at = (uintptr_t)s % PAGE_BYTES, to = (uintptr_t)d % PAGE_BYTES, n = bytes - i;
        if (n > 16) n = 16;
        if (n > PAGE_BYTES - at) n = PAGE_BYTES - at;
        if (n > PAGE_BYTES - to) n = PAGE_BYTES - to;
        const Page *from = device_page(s, false);
        Page *page = device_page(d, true);
        uint32_t bits = from ? map_bits(from->valid, at, n) : 0;
        if (bits == (1u << n) - 1 || !bits)
            map_set(page->valid, to, n, bits != 0);
        else
            for (size_t k = 0; k < n; k++) map_set(page->valid, to + k, 1, bits >> k & 1);
        i += n;
    }
}

void shadow_library_read(const void *p, size_t bytes, const char *what)
{
    size_t missing = 0;
    uintptr_t at = (uintptr_t)p;
    while (bytes) {
        size_t offset = at % PAGE_BYTES, n = bytes < 16 ? bytes : 16;
        if (n > PAGE_BYTES - offset) n = PAGE_BYTES - offset;
        const Page *page = device_page((const void *)at, false);
        missing += n - (size_t)__builtin_popcount(page ? map_bits(page->valid, offset, n) : 0);
        at += n;
        bytes -= n;
    }
    if (missing) report("%s reads %zu bytes at %p that nothing has written", what, missing, p);
}

/* ---- findings --------------------------------------------------------------------------------------------------- */

enum { MAX_PER_LAUNCH = 12 };

/* One finding for each pair of places and launch. */
static bool is_new(const void *here, const void *there)
{
    static std::vector<std::pair<const void *, const void *>> said;
    static uint32_t of_launch;
    if (of_launch != clocks.launch) {
        of_launch = clocks.launch;
        said.clear();
    }
    for (const auto &pair : said)
        if (pair.first == here && pair.second == there) return false;
    said.push_back({ here, there });
    if (said.size() == MAX_PER_LAUNCH) block.failed = true;
    return true;
}

static const char *verb(Access kind) { return kind == READ ? "read" : kind == WRITE ? "write" : "atomic"; }

static void stop(cudaError_t error)
{
    block.error = error;
    stop_kernel();
}

/* ---- races -------------------------------------------------------------------------------------------------------- */

struct Touch {
    Access kind;
    int thread;
    const void *place;
    bool shared;
    const char *at;
};

static void race(const Touch *t, const char *other, uint32_t clock, int thread, uint32_t place)
{
    const void *there = place_of(place);
    if (!is_new(t->place, there)) return;
    int self = block.thread;
    block.thread = t->thread;
    const char *memory = t->shared ? "shared" : "device";
    if (clock >= clocks.block) {
        report_at(t->place, there,
                  "race in %s memory: %s at %%s of what thread %d %s at %%s, with nothing between that "
                  "orders them",
                  memory, verb(t->kind), thread, other);
    } else {
        uint64_t b = block_at(clock);
        report_at(t->place, there,
                  "race in %s memory between blocks: %s at %%s of what thread %d of block %llu (x "
                  "fastest) %s at %%s in the same launch",
                  memory, verb(t->kind), thread, (unsigned long long)b, other);
    }
    block.thread = self;
}

/* Whether the cell's last write is ordered before thread t; clock says it is of this launch. */
static bool write_in_order(const Cell *c, int t)
{
    if (c->write_clock < clocks.block) return acquired(c->write_thread, c->write_clock, t);
    if (!(c->write_flags & SEVERAL_ATOMIC)) return in_order(c->write_thread, c->write_clock, t);
    if (c->write_flags & MIXED_ATOMIC || c->write_thread / WARP != t / WARP) return c->write_clock < clocks.barrier;
    return warp_in_order(t / WARP, c->write_clock);
}

static bool reads_in_order(const Cell *c, int t)
{
    if (c->read_clock < clocks.block) return acquired(c->read_thread, c->read_clock, t);
    if (!(c->read_flags & SEVERAL_READERS)) return in_order(c->read_thread, c->read_clock, t);
    if (c->read_clock < clocks.barrier) return true;
    if (c->read_flags & MIXED_READERS) return false;
    return c->read_thread / WARP == t / WARP && in_order(c->read_thread, c->read_clock, t) &&
           in_order(c->second_reader, c->read_clock, t);
}

static void note_read(Cell *c, const Touch *t, uint32_t base)
{
    int me = t->thread;
    if (c->read_clock >= base && c->read_clock < clocks.block) {
        c->other_read_clock = c->read_clock;
        c->read_clock = 0;
    }
    if (c->read_clock < base || reads_in_order(c, me)) {
        c->read_flags = 0;
    } else if (c->read_thread != me) {
        bool other_warp = c->read_thread / WARP != me / WARP;
        if (!(c->read_flags & SEVERAL_READERS) || other_warp || c->second_reader == me)
            c->second_reader = c->read_thread;
        c->read_flags |= SEVERAL_READERS;
        if (other_warp) c->read_flags |= MIXED_READERS;
    }
    c->read_thread = (uint16_t)me;
    c->read_clock = clocks.now;
    c->read_place = place_number(t->place);
}

static void note_write(Cell *c, const Touch *t, uint32_t base)
{
    int me = t->thread;
    uint8_t flags = 0;
    if (t->kind == ATOMIC) {
        flags = ATOMIC_WRITE;
        if (c->write_flags & ATOMIC_WRITE && c->write_clock >= base) {
            flags = c->write_flags;
            if (c->write_clock < clocks.block)
                flags = ATOMIC_WRITE | BLOCKS_ATOMIC;
            else if (c->write_thread != me)
                flags |= SEVERAL_ATOMIC | (c->write_thread / WARP != me / WARP ? MIXED_ATOMIC : 0);
        }
    }
    c->write_flags = flags;
    c->write_thread = (uint16_t)me;
    c->write_clock = clocks.now;
    c->write_place = place_number(t->place);
    c->read_clock = c->other_read_clock = 0;
}

static void check_cell(Cell *c, const Touch *t)
{
    uint32_t base = t->shared ? clocks.block : clocks.launch;
    int me = t->thread;
    bool both_atomic = t->kind == ATOMIC && c->write_flags & ATOMIC_WRITE;
    if (c->write_clock >= base && !both_atomic) {
        bool own = c->write_thread == me && c->write_clock >= clocks.block && !(c->write_flags & SEVERAL_ATOMIC);
        if (!own && !write_in_order(c, me))
            race(t, c->write_flags & ATOMIC_WRITE ? "changed atomically" : "wrote", c->write_clock, c->write_thread,
                 c->write_place);
        else if (c->write_flags & BLOCKS_ATOMIC && !acquired_any(me))
            race(t, "changed atomically, after other blocks,", c->write_clock, c->write_thread, c->write_place);
    }
    if (t->kind == READ) {
        note_read(c, t, base);
        return;
    }
    if (c->read_clock >= base && !reads_in_order(c, me)) {
        bool second = c->read_flags & SEVERAL_READERS && c->read_thread == me;
        race(t, "read", c->read_clock, second ? c->second_reader : c->read_thread, c->read_place);
    } else if (c->other_read_clock >= base && !acquired(-1, c->other_read_clock, me)) {
        race(t, "read", c->other_read_clock, c->read_thread, c->read_place);
    }
    note_write(c, t, base);
}

static void check_cells(Page *page, size_t at, size_t bytes, const Touch *t)
{
    size_t both = at | bytes;
    int shift = both & 3 ? (both & 1 ? 0 : 1) : 2;
    if (shift < page->shift) page_need_shift(page, shift);
    if (!page->cell) page_cells(page);
    for (size_t i = at >> page->shift; i <= (at + bytes - 1) >> page->shift; i++) check_cell(&page->cell[i], t);
}

/* ---- one access ----------------------------------------------------------------------------------------------------- */

static void check_valid(const Page *page, size_t at, size_t bytes, const Touch *t, const void *p)
{
    if (map_bits(page->valid, at, bytes) == (1u << bytes) - 1 || !is_new(t->place, nullptr)) return;
    report_at(t->place, nullptr, "%s at %%s of %zu bytes of %s memory (%p) that nothing has written", verb(t->kind),
              bytes, t->shared ? "shared" : "device", p);
}

static void access_shared(size_t offset, size_t bytes, const Touch *t)
{
    Page *page = shared_page(offset);
    size_t at = offset % PAGE_BYTES;
    if (map_bits(page->inside, at, bytes) != (1u << bytes) - 1) {
        report_at(t->place, nullptr, "%s at %%s of %zu bytes of shared memory outside of any array (%zu bytes into it)",
                  verb(t->kind), bytes, offset);
        stop(cudaErrorIllegalAddress);
    }
    if (map_bits(page->in_flight, at, bytes) && is_new(t->place, nullptr))
        report_at(t->place, nullptr, "%s at %%s of shared memory that a cp.async has yet to fill", verb(t->kind));
    else if (t->kind != WRITE)
        check_valid(page, at, bytes, t, t->at);
    if (settings.races) check_cells(page, at, bytes, t);
    if (t->kind != READ) map_set(page->valid, at, bytes, true);
}

static void outside(const Touch *t, const Allocation *a, size_t bytes)
{
    if (!a)
        report_at(t->place, nullptr, "%s at %%s of %zu bytes at %p, which is not inside any allocation", verb(t->kind),
                  bytes, (const void *)t->at);
    else if (a->freed)
        report_at(t->place, nullptr, "%s at %%s of %zu bytes at %p, %td bytes into freed memory", verb(t->kind), bytes,
                  (const void *)t->at, t->at - a->p);
    else
        report_at(t->place, nullptr, "%s at %%s of %zu bytes, %td bytes into an allocation of %zu", verb(t->kind),
                  bytes, t->at - a->p, a->bytes);
    stop(cudaErrorIllegalAddress);
}

static void access_device(const char *p, size_t bytes, const Touch *t)
{
    Page *page = device_page(p, true);
    const Allocation *a = page->owner;
    if (!a || a->freed || p < a->p || p + bytes > a->p + a->bytes) outside(t, a, bytes);
    if (a->device != block.device && !peer_enabled(block.device, a->device)) {
        report_at(t->place, nullptr, "%s at %%s of memory of device %d from a kernel of device %d", verb(t->kind),
                  a->device, block.device);
        stop(cudaErrorIllegalAddress);
    }
    size_t at = (uintptr_t)p % PAGE_BYTES;
    if (t->kind != WRITE) check_valid(page, at, bytes, t, p);
    if (settings.races) {
        if (t->kind == ATOMIC) clock_atomic(p, t->thread);
        check_cells(page, at, bytes, t);
    }
    if (t->kind != READ) map_set(page->valid, at, bytes, true);
}

/* Constants and tables of a loaded program or library. */
static bool read_only(const void *p)
{
    struct Query {
        uintptr_t p;
        bool found;
    } query = { (uintptr_t)p, false };
    dl_iterate_phdr(
        [](struct dl_phdr_info *info, size_t, void *data) {
            Query *q = (Query *)data;
            for (int i = 0; i < info->dlpi_phnum; i++) {
                const ElfW(Phdr) *h = &info->dlpi_phdr[i];
                bool constant = (h->p_type == PT_LOAD && !(h->p_flags & PF_W)) || h->p_type == PT_GNU_RELRO;
                uintptr_t begin = info->dlpi_addr + h->p_vaddr;
                if (constant && q->p >= begin && q->p < begin + h->p_memsz) q->found = true;
            }
            return (int)q->found;
        },
        &query);
    return query.found;
}

static void access_other(const char *p, size_t bytes, const Touch *t)
{
    static uintptr_t constant_page;
    if (t->kind == READ && p >= block.arguments && p + bytes <= block.arguments + block.argument_bytes) return;
    if (t->kind == READ && (uintptr_t)p / PAGE_BYTES == constant_page) return;
    if (t->kind == READ && read_only(p)) {
        constant_page = (uintptr_t)p / PAGE_BYTES;
        return;
    }
    const Allocation *a = find_allocation(p);
    if (a && a->device < 0 && p + bytes <= a->p + a->bytes) return; /* pinned memory is the device's too */
    report_at(t->place, nullptr, "%s at %%s of %zu bytes at the host address %p", verb(t->kind), bytes,
              (const void *)p);
    stop(cudaErrorIllegalAddress);
}

void shadow_access(const void *address, size_t bytes, Access kind, int thread, const void *place)
{
    const char *p = (const char *)address;
    if (p >= block.stack_low && p < block.stack_high) return;
    while (bytes) { /* pieces of at most 16 bytes, each in one page */
        size_t n = bytes < 16 ? bytes : 16, room = PAGE_BYTES - (uintptr_t)p % PAGE_BYTES;
        if (n > room) n = room;
        bool shared = in_shared(p);
        Touch t = { kind, thread, place, shared, p };
        if (counting && (shared || in_device_arena(p))) count_access(p, n, kind, thread, place, shared);
        if (shared)
            access_shared((size_t)(p - block.shared), n, &t);
        else if (in_device_arena(p))
            access_device(p, n, &t);
        else
            access_other(p, n, &t);
        p += n;
        bytes -= n;
    }
}

} // namespace cudasim
