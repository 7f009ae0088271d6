/* count.cpp - what a GPU's memory system would be asked for, counted from the accesses of each warp: simulated
 * figures, not measurements.
 *
 * The accesses of a warp's lanes at the same place in the code, each lane's k-th one there, are one request. Of a
 * request to device memory the 32-byte sectors are counted, and how few could hold the same bytes; of one to shared
 * memory the wavefronts: passes over 32 banks of 4 bytes, where lanes that want different words of a bank need one
 * pass after another. Accesses of 8 (16) bytes are made by half (quarter) warps.
 *
 * What must come from DRAM is told from what a cache has by an L2 of 4 MiB, the smallest of the GPUs that we build for
 * (6 MB) less room for what is written, which forgets the least recently used sector of a set. Blocks run one after
 * another here and side by side there, so a sector that this very block has had must also be among its last OWN_BYTES:
 * one multiprocessor's share. Both are empty when a launch begins. So a vector that every row needs counts once, rows of
 * an image that windows of neighbouring blocks share count once, and a long row that its block reads twice, twice. */
#include "shadow.h"
#include "sim.h"
#include <deque>
#include <map>
#include <stdlib.h>
#include <string.h>
#include <unordered_map>

namespace cudasim
{

bool counting;

struct Request {
    uint32_t mask;
    uint32_t bytes;
    Access kind;
    uintptr_t at[WARP];
};
struct Site {
    uintptr_t key;
    uint32_t next[WARP]; /* how often each lane was here */
    uint32_t first;      /* the occurrence that open begins with */
    std::deque<Request> open;
};
struct WarpSites {
    std::vector<Site> site;
    std::unordered_map<uintptr_t, size_t> index;
    size_t last;
};
static WarpSites warps[MAX_WARPS];

struct Row {
    std::string kernel;
    const void *function;
    struct cudasim_counts counts;
};
static std::deque<Row> rows;
static struct cudasim_counts *now;

/* Bytes of a page that the launch has read and written. */
struct Foot {
    uint8_t read[MAP_BYTES], written[MAP_BYTES];
};
static std::unordered_map<uintptr_t, Foot> feet;
static uintptr_t last_page;
static Foot *last_foot;

/* ---- the cache -------------------------------------------------------------------------------------------------- */

enum { L2_BYTES = 4 << 20, OWN_BYTES = 64 << 10, WAYS = 8 };
template <size_t BYTES> struct Cache {
    enum { SETS = BYTES / 32 / WAYS };
    struct {
        uintptr_t sector[WAYS]; /* plus one; 0: nothing */
        uint64_t used[WAYS], block[WAYS];
    } set[SETS];
    uint64_t clock;

    void forget() { memset(this, 0, sizeof *this); }
    /* Whether the sector is there, and then which block had it last; it is there afterwards. */
    bool has(uintptr_t sector, uint64_t *by)
    {
        auto *s = &set[(sector ^ sector >> 8 ^ sector >> 16) % SETS];
        int at = 0;
        bool found = false;
        clock++;
        for (int i = 0; i < WAYS && !found; i++) {
            found = s->sector[i] == sector + 1;
            if (found || s->used[i] < s->used[at]) at = i;
        }
        *by = s->block[at];
        s->sector[at] = sector + 1;
        s->used[at] = clock;
        s->block[at] = block.index + 1;
        return found;
    }
};
static Cache<L2_BYTES> l2;
static Cache<OWN_BYTES> own;

/* Whether a sector has to be fetched. */
static bool misses(uintptr_t sector)
{
    uint64_t by, ignored;
    bool in_own = own.has(sector, &ignored), in_l2 = l2.has(sector, &by);
    return !in_l2 || (by == block.index + 1 && !in_own);
}

/* ---- one request ------------------------------------------------------------------------------------------------ */

static int gather(const Request *r, uintptr_t *at)
{
    int n = 0;
    for (int l = 0; l < WARP; l++) {
        if (!(r->mask >> l & 1)) continue;
        int k = n++;
        for (; k > 0 && at[k - 1] > r->at[l]; k--) at[k] = at[k - 1];
        at[k] = r->at[l];
    }
    return n;
}

static void tally_device(const Request *r)
{
    uintptr_t at[WARP], end = 0, sector = 0;
    int n = gather(r, at);
    uint64_t bytes = 0, sectors = 0, missed = 0;
    for (int i = 0; i < n; i++) {
        uintptr_t begin = at[i] > end ? at[i] : end, stop = at[i] + r->bytes;
        if (stop <= begin) continue;
        bytes += stop - begin;
        for (uintptr_t s = begin / 32; s <= (stop - 1) / 32; s++) {
            if (s + 1 <= sector) continue;
            sectors++;
            missed += misses(s);
            sector = s + 1;
        }
        end = stop;
    }
    struct cudasim_traffic *t = r->kind == READ ? &now->load : r->kind == WRITE ? &now->store : &now->atomic;
    t->requests++;
    t->asked += (uint64_t)n * r->bytes;
    t->bytes += bytes;
    t->sectors += sectors;
    t->missed += missed;
    t->ideal_sectors += (bytes + 31) / 32;
}

/* The passes that some lanes of a request need. */
static int passes(const Request *r, int first, int lanes)
{
    uintptr_t word[WARP * 4];
    int n = 0, bank[WARP] = {}, most = 0;
    for (int l = first; l < first + lanes; l++) {
        if (!(r->mask >> l & 1)) continue;
        for (uintptr_t w = r->at[l] / 4; w <= (r->at[l] + r->bytes - 1) / 4; w++) {
            bool again = false;
            for (int i = 0; i < n && r->kind != ATOMIC; i++) again |= word[i] == w;
            if (again) continue;
            word[n++] = w;
            if (++bank[w % WARP] > most) most = bank[w % WARP];
        }
    }
    return most;
}

static void tally_shared(const Request *r)
{
    struct cudasim_shared *t = r->kind == READ ? &now->shared_load : &now->shared_store;
    int lanes = r->bytes == 16 ? 8 : r->bytes == 8 ? 16 : WARP;
    t->requests++;
    for (int first = 0; first < WARP; first += lanes) {
        int n = passes(r, first, lanes);
        t->wavefronts += (uint64_t)n;
        t->ideal_wavefronts += n > 0;
    }
}

static void tally(const Request *r, uintptr_t key)
{
    if (key & 1)
        tally_shared(r);
    else
        tally_device(r);
}

/* ---- from accesses to requests --------------------------------------------------------------------------------- */

static Site *site_of(WarpSites *w, uintptr_t key)
{
    if (w->last < w->site.size() && w->site[w->last].key == key) return &w->site[w->last];
    auto found = w->index.find(key);
    if (found == w->index.end()) {
        found = w->index.emplace(key, w->site.size()).first;
        w->site.push_back({ key, {}, 0, {} });
    }
    w->last = found->second;
    return &w->site[w->last];
}

static void step_on(const char *p, size_t bytes, Access kind)
{
    uintptr_t page = (uintptr_t)p / PAGE_BYTES;
    if (!last_foot || page != last_page) {
        last_page = page;
        last_foot = &feet[page];
    }
    size_t at = (uintptr_t)p % PAGE_BYTES;
    if (kind != WRITE) map_set(last_foot->read, at, bytes, true);
    if (kind != READ) map_set(last_foot->written, at, bytes, true);
}

void count_access(const void *p, size_t bytes, Access kind, int thread, const void *place, bool shared)
{
    if (!now) return;
    WarpSites *w = &warps[thread / WARP];
    uintptr_t key = (uintptr_t)place * 2 + shared;
    Site *s = site_of(w, key);
    int lane = thread % WARP;
    uint32_t k = s->next[lane]++ - s->first;
    if (k >= s->open.size()) s->open.push_back({ 0, (uint32_t)bytes, kind, {} });
    Request *r = &s->open[k];
    r->mask |= 1u << lane;
    r->at[lane] = (uintptr_t)p;
    if (bytes > r->bytes) r->bytes = (uint32_t)bytes;
    if (!shared) step_on((const char *)p, bytes, kind);
    while (!s->open.empty() && s->open.front().mask == ~0u) {
        tally(&s->open.front(), key);
        s->open.pop_front();
        s->first++;
    }
}

void count_block_end()
{
    for (int i = 0; i * WARP < block.threads; i++) {
        WarpSites *w = &warps[i];
        for (const Site &s : w->site)
            for (const Request &r : s.open)
                if (r.mask) tally(&r, s.key);
        w->site.clear();
        w->index.clear();
        w->last = 0;
    }
}

void count_matrix_product()
{
    if (now) now->matrix_products++;
}

void count_launch(const Kernel &kernel, uint64_t threads)
{
    now = nullptr;
    if (!counting) return;
    Row *row = nullptr;
    for (Row &r : rows)
        if (r.function == kernel.function) row = &r;
    if (!row) {
        rows.push_back({ function_name(kernel), kernel.function, {} });
        row = &rows.back();
    }
    l2.forget();
    own.forget();
    now = &row->counts;
    now->launches++;
    now->threads += threads;
}

void count_launch_end()
{
    if (!now) return;
    for (const auto &f : feet)
        for (size_t i = 0; i < MAP_BYTES; i++) {
            now->footprint_read += (uint64_t)__builtin_popcount(f.second.read[i]);
            now->footprint_written += (uint64_t)__builtin_popcount(f.second.written[i]);
        }
    feet.clear();
    last_foot = nullptr;
    now = nullptr;
}

/* ---- the table ------------------------------------------------------------------------------------------------------ */

static void write_counts()
{
    FILE *f = settings.counts ? fopen(settings.counts, "w") : nullptr;
    if (!f) return;
    fprintf(f, "# simulated: counted on the CPU from each warp's accesses, not measured on a GPU\n"
               "kernel\tlaunches\tthreads\tfootprint_read\tfootprint_written\tload_requests\tload_bytes\tload_sectors\t"
               "load_ideal_sectors\tload_missed\tstore_requests\tstore_bytes\tstore_sectors\tstore_ideal_sectors\t"
               "atomic_requests\t"
               "shared_load_requests\tshared_load_wavefronts\tshared_load_ideal\tshared_store_requests\t"
               "shared_store_wavefronts\tshared_store_ideal\tmatrix_products\n");
    for (const Row &row : rows) {
        const struct cudasim_counts *c = &row.counts;
        const uint64_t columns[] = {
            c->launches,
            c->threads,
            c->footprint_read,
            c->footprint_written,
            c->load.requests,
            c->load.bytes,
            c->load.sectors,
            c->load.ideal_sectors,
            c->load.missed,
            c->store.requests,
            c->store.bytes,
            c->store.sectors,
            c->store.ideal_sectors,
            c->atomic.requests,
            c->shared_load.requests,
            c->shared_load.wavefronts,
            c->shared_load.ideal_wavefronts,
            c->shared_store.requests,
            c->shared_store.wavefronts,
            c->shared_store.ideal_wavefronts,
            c->matrix_products,
        };
        fprintf(f, "%s", row.kernel.c_str());
        for (uint64_t v : columns) fprintf(f, "\t%llu", (unsigned long long)v);
        fprintf(f, "\n");
    }
    fclose(f);
}

void count_from_environment()
{
    if (!checked || !settings.counts) return;
    counting = true;
    atexit(write_counts);
}

} // namespace cudasim

using namespace cudasim;

int cudasim_count(int on)
{
    if (!checked) return 0;
    if (on) {
        rows.clear();
        now = nullptr;
    }
    counting = on != 0;
    return 1;
}
int cudasim_counted(int i, struct cudasim_counts *out, const char **kernel)
{
    if (i < 0 || (size_t)i >= rows.size()) return 0;
    const Row *row = &rows[(size_t)i];
    if (out) *out = row->counts;
    if (kernel) *kernel = row->kernel.c_str();
    return 1;
}
