/* pages.cpp - where the shadow of an address lies. */
#include "memory.h"
#include "shadow.h"
#include <map>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unordered_map>

namespace cudasim
{

/* ---- bits ------------------------------------------------------------------------------------------------------ */

void map_set(uint8_t *map, size_t at, size_t n, bool value)
{
    for (; n && at & 7; at++, n--)
        map[at >> 3] = (uint8_t)(value ? map[at >> 3] | 1 << (at & 7) : map[at >> 3] & ~(1 << (at & 7)));
    memset(map + (at >> 3), value ? 0xff : 0, n >> 3);
    for (at += n & ~(size_t)7, n &= 7; n; at++, n--)
        map[at >> 3] = (uint8_t)(value ? map[at >> 3] | 1 << (at & 7) : map[at >> 3] & ~(1 << (at & 7)));
}

/* ---- pages -------------------------------------------------------------------------------------------------------- */

/* Device addresses by chunks of 4 MB: a table of pages each. */
static const size_t CHUNK_BITS = 22, CHUNK_PAGES = 1 << (CHUNK_BITS - PAGE_BITS);
struct Chunk {
    Page *page[CHUNK_PAGES];
};
static std::unordered_map<uintptr_t, Chunk *> chunks;
static uintptr_t last_key;
static Chunk *last_chunk;

/* Pages and cells are never given back: zeroed memory that the system fills in on first touch. */
static void *take(size_t bytes)
{
    static char *next, *end;
    bytes = (bytes + 63) / 64 * 64;
    if ((size_t)(end - next) < bytes) {
        size_t piece = (size_t)256 << 20;
        next = (char *)mmap(nullptr, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (next == MAP_FAILED) {
            fprintf(stderr, "cudasim: no memory for the shadow\n");
            exit(2);
        }
        end = next + piece;
    }
    char *p = next;
    next += bytes;
    return p;
}

static Chunk *chunk_of(uintptr_t key, bool make)
{
    if (last_chunk && last_key == key) return last_chunk;
    auto i = chunks.find(key);
    if (i == chunks.end() && !make) return nullptr;
    Chunk *c = i == chunks.end() ? (chunks[key] = (Chunk *)take(sizeof(Chunk))) : i->second;
    last_key = key;
    last_chunk = c;
    return c;
}

Page *device_page(const void *p, bool make)
{
    Chunk *c = chunk_of((uintptr_t)p >> CHUNK_BITS, make);
    if (!c) return nullptr;
    Page **slot = &c->page[(uintptr_t)p >> PAGE_BITS & (CHUNK_PAGES - 1)];
    if (!*slot && make) {
        Page *page = (Page *)take(sizeof *page);
        page->shift = 2;
        page->owner = allocation_in(p, PAGE_BYTES);
        if (!page->owner) return page; /* asked again when there is one */
        *slot = page;
    }
    return *slot;
}

Page *shared_page(size_t offset)
{
    static Page *pages;
    if (!pages) {
        pages = (Page *)take(sizeof *pages * (SHARED_SPAN / PAGE_BYTES));
        for (size_t i = 0; i < SHARED_SPAN / PAGE_BYTES; i++) pages[i].shift = 2;
    }
    return &pages[offset >> PAGE_BITS];
}

static std::vector<Cell *> spare[3];
void page_cells(Page *page)
{
    std::vector<Cell *> *s = &spare[page->shift];
    if (s->empty()) {
        page->cell = (Cell *)take(sizeof(Cell) * (size_t)(PAGE_BYTES >> page->shift));
        return;
    }
    page->cell = s->back();
    s->pop_back();
    memset(page->cell, 0, sizeof(Cell) * (size_t)(PAGE_BYTES >> page->shift));
}

/* Cells for smaller pieces: what was known of four bytes is known of each. */
void page_need_shift(Page *page, int shift)
{
    const Cell *old = page->cell;
    int before = page->shift;
    page->shift = (uint8_t)shift;
    if (!old) return;
    page_cells(page);
    for (size_t i = 0; i < PAGE_BYTES >> shift; i++) page->cell[i] = old[i >> (before - shift)];
    spare[before].push_back((Cell *)old);
}

/* ---- places --------------------------------------------------------------------------------------------------------- */

static std::vector<const void *> places(1);
static std::unordered_map<const void *, uint32_t> place_numbers;
enum { QUICK = 1024 };
static struct {
    const void *pc;
    uint32_t number;
} quick[QUICK];

uint32_t place_number(const void *pc)
{
    auto *q = &quick[((uintptr_t)pc ^ (uintptr_t)pc >> 10) % QUICK];
    if (q->pc == pc) return q->number;
    uint32_t *n = &place_numbers[pc];
    if (!*n) {
        *n = (uint32_t)places.size();
        places.push_back(pc);
    }
    q->pc = pc;
    q->number = *n;
    return *n;
}
const void *place_of(uint32_t number) { return number < places.size() ? places[number] : nullptr; }

} // namespace cudasim
