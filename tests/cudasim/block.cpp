/* block.cpp - the blocks of a grid, one after another, and their shared memory. */
#include "fiber.h"
#include <string.h>
#include <sys/mman.h>

uint3 thread_index_now, block_index_now;
dim3 block_dim_now, grid_dim_now;

namespace cudasim
{

Block block;
int thread_in_block_now;

/* ---- shared memory: bump allocation with red zones, poisoned for each block ------------------------------- */

enum { MAX_ARRAYS = 64 };
static struct {
    const void *key;
    char *p;
} array[MAX_ARRAYS];
static int arrays;

bool in_shared(const void *p)
{
    return (const char *)p >= block.shared && (const char *)p < block.shared + SHARED_SPAN;
}

static char *carve(size_t bytes)
{
    char *p = block.shared + block.shared_top;
    block.shared_top += (bytes + 15) / 16 * 16 + RED_ZONE;
    memset(p, 0xff, bytes);
    if (checked) shadow_shared(p, bytes);
    return p;
}

void *shared_static(const void *key, size_t bytes, const char *name)
{
    for (int i = 0; i < arrays; i++)
        if (array[i].key == key) return array[i].p;
    block.static_bytes += (bytes + 15) / 16 * 16;
    if (block.static_bytes > STATIC_SHARED_MAX || arrays == MAX_ARRAYS) {
        report("%zu bytes of static shared memory with %s; at most %d", block.static_bytes, name, STATIC_SHARED_MAX);
        stop_kernel();
    }
    array[arrays].key = key;
    array[arrays].p = carve(bytes);
    return array[arrays++].p;
}

void *shared_dynamic() { return block.dynamic; }

static void begin_shared(size_t dynamic)
{
    arrays = 0;
    block.static_bytes = 0;
    block.shared_top = RED_ZONE;
    block.dynamic_bytes = dynamic;
    block.dynamic = block.shared + block.shared_top;
    if (dynamic) block.dynamic = carve(dynamic);
}

/* ---- the grid ------------------------------------------------------------------------------------------- */

static uint64_t block_count(const Grid *g) { return (uint64_t)g->grid.x * g->grid.y * g->grid.z; }

/* The place of the i-th block to run. RANDOM: steps of a size that has no divisor in common with the count. */
static uint64_t block_in_order(uint64_t i, uint64_t n, uint64_t stride)
{
    if (settings.order == REVERSED) return n - 1 - i;
    return settings.order == RANDOM ? (uint64_t)((unsigned __int128)(i + settings.seed % n) * stride % n) : i;
}

static uint64_t stride_for(uint64_t n, uint64_t seed)
{
    uint64_t stride = n > 2 ? 1 + next_random(&seed) % (n - 1) : 1;
    for (;; stride++) {
        uint64_t a = stride, b = n;
        while (b) {
            uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) return stride;
    }
}

cudaError_t run_grid(const Grid &g)
{
    static char *window;
    if (!window) {
        window = (char *)mmap(nullptr, SHARED_SPAN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (window == MAP_FAILED) fatal("no memory for the simulated shared memory");
    }
    set_traps();
    size_t findings = finding_count();
    block = Block();
    block.kernel = function_name(g.kernel).c_str();
    block.function = g.kernel.function;
    block.threads = (int)(g.block.x * g.block.y * g.block.z);
    block.shared = window;
    block.arguments = (const char *)g.arguments;
    block.argument_bytes = g.argument_bytes;
    block.device = g.device;
    block.error = cudaErrorLaunchFailure;
    grid_dim_now = g.grid;
    block_dim_now = g.block;
    if (checked) shadow_launch();
    uint64_t n = block_count(&g), stride = stride_for(n, settings.seed + 1);
    if (counting) count_launch(g.kernel, n * (uint64_t)block.threads);
    open_memory();
    for (uint64_t i = 0; i < n && !block.failed; i++) {
        block.index = block_in_order(i, n, stride);
        block_index_now.x = (unsigned)(block.index % g.grid.x);
        block_index_now.y = (unsigned)(block.index / g.grid.x % g.grid.y);
        block_index_now.z = (unsigned)(block.index / g.grid.x / g.grid.y);
        if (checked) shadow_block();
        begin_shared(g.dynamic_shared);
        run_threads(g.kernel.call, g.arguments);
        async_reset();
        if (counting) count_block_end();
    }
    close_memory();
    if (counting) count_launch_end();
    flush_findings();
    return finding_count() == findings ? cudaSuccess : block.error;
}

} // namespace cudasim
