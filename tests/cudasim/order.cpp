/* order.cpp - which access happened before which: barriers, __syncwarp, and the release and acquire of fences with
 * atomics.
 *
 * Shuffles and votes order nothing. Between blocks of a launch there is one way only, that of the PTX memory model:
 * a thread's __threadfence() and then its atomic on an address release what happened before the fence in its block; a
 * later atomic of another block's thread on that address and then its __threadfence() acquire it, for itself and,
 * through a barrier after the fence, for its block. */
#include "shadow.h"
#include <string.h>
#include <unordered_map>

namespace cudasim
{

Clock clocks = { 1, 1, 1, 1 };

struct Lanes {
    uint32_t all;              /* the last sync of the whole warp  */
    bool partial;              /* seen is in use                   */
    uint32_t seen[WARP][WARP]; /* [b][a]: what lane b knows of a's past */
};
static Lanes lanes[MAX_WARPS];

/* What a thread made known with a fence and an atomic. */
struct Release {
    uint32_t block, barrier, warp, fence; /* clocks */
    int thread;
};
typedef std::vector<Release> Releases;
struct Acquisition {
    const Releases *of;
    size_t count; /* its first ones */
    int thread;
    uint32_t clock; /* 0: no fence has followed yet */
};
struct Fence {
    uint32_t clock, barrier, warp;
};
static std::unordered_map<const void *, Releases> releases;
static std::vector<Acquisition> acquisitions;
static Fence fences[MAX_THREADS];
static std::vector<uint32_t> begun; /* the clock when each block of the launch began */
static std::vector<uint64_t> begun_block;

void clock_launch()
{
    releases.clear();
    begun.clear();
    begun_block.clear();
    clocks.launch = ++clocks.now;
}

void clock_block()
{
    clocks.block = clocks.barrier = ++clocks.now;
    begun.push_back(clocks.now);
    begun_block.push_back(block.index);
    acquisitions.clear();
    for (int w = 0; w * WARP < block.threads; w++) {
        lanes[w].all = clocks.now;
        lanes[w].partial = false;
    }
    memset(fences, 0, sizeof fences[0] * (size_t)block.threads);
}

void clock_barrier() { clocks.barrier = ++clocks.now; }

static uint32_t seen(const Lanes *w, int a, int b)
{
    uint32_t clock = w->partial ? w->seen[b][a] : 0;
    return clock > w->all ? clock : w->all;
}

void clock_warp_sync(int warp, uint32_t mask)
{
    Lanes *w = &lanes[warp];
    uint32_t now = ++clocks.now;
    if (mask == ~0u) {
        w->all = now;
        return;
    }
    if (!w->partial) {
        memset(w->seen, 0, sizeof w->seen);
        w->partial = true;
    }
    /* Everyone in the mask learns what anyone in it knew, and what each did until now. */
    uint32_t joint[WARP] = {};
    for (int b = 0; b < WARP; b++)
        for (int a = 0; mask >> b & 1 && a < WARP; a++)
            if (w->seen[b][a] > joint[a]) joint[a] = w->seen[b][a];
    for (int a = 0; a < WARP; a++)
        if (mask >> a & 1) joint[a] = now;
    for (int b = 0; b < WARP; b++)
        if (mask >> b & 1) memcpy(w->seen[b], joint, sizeof joint);
}

bool in_order(int a, uint32_t at, int b)
{
    if (a == b || at < clocks.barrier) return true;
    return a / WARP == b / WARP && at < seen(&lanes[a / WARP], a % WARP, b % WARP);
}
bool warp_in_order(int warp, uint32_t at) { return at < clocks.barrier || at < lanes[warp].all; }

/* ---- between blocks ------------------------------------------------------------------------------------------ */

void clock_fence(int t)
{
    fences[t] = { ++clocks.now, clocks.barrier, lanes[t / WARP].all };
    for (Acquisition &a : acquisitions)
        if (a.thread == t && !a.clock) a.clock = clocks.now;
}

static bool covers(const Acquisition *a, int b) { return a->clock && in_order(a->thread, a->clock, b); }

void clock_atomic(const void *p, int t)
{
    auto found = releases.find(p);
    if (found == releases.end() && !fences[t].clock) return;
    Releases *list = found == releases.end() ? &releases[p] : &found->second;
    if (!list->empty()) acquisitions.push_back({ list, list->size(), t, 0 });
    if (!fences[t].clock) return;
    /* What the thread has acquired itself, it hands on. */
    Releases known;
    for (const Acquisition &a : acquisitions)
        if (a.of != list && covers(&a, t)) known.insert(known.end(), a.of->begin(), a.of->begin() + (long)a.count);
    list->insert(list->end(), known.begin(), known.end());
    list->push_back({ clocks.block, fences[t].barrier, fences[t].warp, fences[t].clock, t });
}

bool acquired(int a, uint32_t at, int b)
{
    for (const Acquisition &q : acquisitions) {
        if (!covers(&q, b)) continue;
        for (size_t i = 0; i < q.count; i++) {
            const Release *r = &(*q.of)[i];
            if (at < r->block || at >= r->fence) continue;
            if (a < 0 || at < r->barrier || a == r->thread) return true;
            if (a / WARP == r->thread / WARP && at < r->warp) return true;
        }
    }
    return false;
}

bool acquired_any(int b)
{
    for (const Acquisition &q : acquisitions)
        if (covers(&q, b)) return true;
    return false;
}

uint64_t block_at(uint32_t at)
{
    size_t low = 0, high = begun.size();
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (begun[middle] <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? begun_block[low - 1] : 0;
}

} // namespace cudasim
