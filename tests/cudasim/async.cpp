/* async.cpp - cp.async: the data arrives at the wait, the latest moment that the hardware may take. Until then the
 * destination holds poison. */
#include "engine.h"
#include <string.h>

namespace cudasim
{

struct Copy {
    char *dst;
    const char *src;
    size_t take;
    unsigned group;
};
struct Queue {
    std::vector<Copy> copies;
    size_t delivered; /* of copies              */
    unsigned group;   /* the one that is open   */
    const char *file;
    int line;
};
static Queue queue[MAX_THREADS];
static bool used;
enum { PIECE = 16 };

void copy_async(void *dst, const void *src, size_t take, const char *file, int line)
{
    if (((uintptr_t)dst | (take ? (uintptr_t)src : 0)) % PIECE) {
        report("cp.async at %s:%d: an address is not a multiple of 16: to %p from %p", file, line, dst, src);
        stop_kernel();
    }
    if (!in_shared(dst)) {
        report("cp.async at %s:%d: the destination %p is not shared memory", file, line, dst);
        stop_kernel();
    }
    if (take && !in_device_arena(src)) {
        report("cp.async at %s:%d: the source %p is not device memory", file, line, src);
        stop_kernel();
    }
    if (checked) {
        const void *place = __builtin_return_address(0);
        if (take) shadow_access(src, take, READ, block.thread, place);
        shadow_access(dst, PIECE, WRITE, block.thread, place);
        shadow_in_flight(dst, PIECE);
    }
    memset(dst, 0xff, PIECE);
    used = true;
    Queue *q = &queue[block.thread];
    q->file = file;
    q->line = line;
    q->copies.push_back({ (char *)dst, (const char *)src, take, q->group });
}

void copy_commit()
{
    used = true;
    queue[block.thread].group++;
}

void copy_wait(int newest)
{
    Queue *q = &queue[block.thread];
    while (q->delivered < q->copies.size()) {
        const Copy *c = &q->copies[q->delivered];
        if (c->group + (unsigned)newest >= q->group) break;
        if (c->take) memcpy(c->dst, c->src, c->take);
        memset(c->dst + c->take, 0, PIECE - c->take);
        if (checked) shadow_delivered(c->dst, PIECE);
        q->delivered++;
    }
    if (q->delivered == q->copies.size()) {
        q->copies.clear();
        q->delivered = 0;
    }
}

void async_thread_exit(int t)
{
    Queue *q = &queue[t];
    if (q->copies.empty()) return;
    report("thread exits with copies of cp.async at %s:%d under way that nothing waited for", q->file, q->line);
    q->copies.clear();
    q->delivered = 0;
}

void async_reset()
{
    if (!used) return;
    used = false;
    for (Queue &q : queue) {
        q.copies.clear();
        q.delivered = 0;
        q.group = 0;
    }
}

} // namespace cudasim
