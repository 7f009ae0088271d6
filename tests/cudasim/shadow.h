/* shadow.h - what the checked build remembers of memory and of time, for shadow.cpp, order.cpp and count.cpp. */
#ifndef QN_TESTS_CUDASIM_SHADOW_H
#define QN_TESTS_CUDASIM_SHADOW_H
#include "engine.h"

namespace cudasim
{

/* ---- time (order.cpp) ---------------------------------------------------------------------------------------
 * One clock for the process: it goes on at every barrier, __syncwarp, fence, and beginning of a block. Blocks run one
 * after another, so a reading of the clock also names a block of the launch. */

struct Clock {
    uint32_t now;
    uint32_t launch, block; /* when the launch and the running block began */
    uint32_t barrier;       /* the last barrier of the running block       */
};
extern Clock clocks;

void clock_launch();
void clock_block();
void clock_barrier();
void clock_warp_sync(int warp, uint32_t mask);
void clock_fence(int thread);
void clock_atomic(const void *p, int thread);

/* Whether an access of thread `a` of the running block at `at` happened before what thread `b` of it does now. */
bool in_order(int a, uint32_t at, int b);
/* The same for lanes of a warp, all of them at once. */
bool warp_in_order(int warp, uint32_t at);
/* Whether thread `b` has acquired what thread `a` (-1: any) of an earlier block of this launch did at `at`. */
bool acquired(int a, uint32_t at, int b);
bool acquired_any(int b);
/* The index in its grid of the block that ran at `at`. */
uint64_t block_at(uint32_t at);

/* ---- memory (pages.cpp) ----------------------------------------------------------------------------------------- */

/* The last write of a few bytes, and the reads since. Clocks from before the launch (device) or the block (shared)
 * mean nothing. */
struct Cell {
    uint32_t write_clock, read_clock;
    uint32_t other_read_clock;        /* a read of an earlier block of the launch; 0: none */
    uint32_t write_place, read_place; /* places.cpp */
    uint16_t write_thread, read_thread;
    uint16_t second_reader; /* with SEVERAL_READERS: another one, of another warp if there is one */
    uint8_t write_flags, read_flags;
};
enum {                     /* write_flags */
       ATOMIC_WRITE = 1,   /* the last writes were atomic            */
       SEVERAL_ATOMIC = 2, /* by more than one thread               */
       MIXED_ATOMIC = 4,   /* of more than one warp                 */
       BLOCKS_ATOMIC = 8,  /* of earlier blocks of the launch too   */
};
enum {                      /* read_flags */
       SEVERAL_READERS = 1, /* unordered with each other */
       MIXED_READERS = 2,   /* of more than one warp     */
};

const size_t PAGE_BITS = 10, PAGE_BYTES = 1 << PAGE_BITS, MAP_BYTES = PAGE_BYTES / 8 + 8;
struct Page {
    const Allocation *owner; /* device memory; NULL: none was ever there */
    Cell *cell;
    uint8_t shift;            /* a cell stands for 1 << shift bytes: 4, unless something smaller was touched */
    uint8_t valid[MAP_BYTES]; /* a bit per byte: written at some time */
    /* shared memory only: */
    uint8_t inside[MAP_BYTES];    /* belongs to an array        */
    uint8_t in_flight[MAP_BYTES]; /* cp.async has not delivered */
};
Page *device_page(const void *p, bool make); /* NULL: not made yet, and make is false */
Page *shared_page(size_t offset);
void page_need_shift(Page *page, int shift);
void page_cells(Page *page);

/* Bits [at, at + n) of a page's map, n <= 16, as the low bits of the answer. */
static inline uint32_t map_bits(const uint8_t *map, size_t at, size_t n)
{
    uint32_t word;
    __builtin_memcpy(&word, map + (at >> 3), sizeof word);
    return word >> (at & 7) & ((1u << n) - 1);
}
void map_set(uint8_t *map, size_t at, size_t n, bool value);

/* A place in the code as a small number, for cells. */
uint32_t place_number(const void *pc);
const void *place_of(uint32_t number);

} // namespace cudasim
#endif
