/* fiber.cpp - the threads of a block as fibers, the block barrier, and the rendezvous of a warp's lanes.
 *
 * A fiber takes threads that have not started and runs them one after another; only when one has to wait is another
 * fiber taken. So a kernel without barriers runs all its threads on one stack without any switch. A warp operation is
 * a rendezvous keyed by its mask: each lane leaves its operands, the last to arrive computes for all. */
#include "fiber.h"
#include <string.h>
#include <sys/mman.h>

namespace cudasim
{

enum State : uint8_t { FRESH, RUNNING, READY, AT_BARRIER, IN_WARP, DONE };

struct Thread {
    State state;
    Fiber *fiber;
    uint64_t result;
    const char *what, *file;
    int line;
    uint32_t mask;
};
struct Warp {
    uint32_t live, exited;
    int meetings;
    Meeting meeting[MAX_MEETINGS];
};

static Thread thread[MAX_THREADS];
static uint3 identity[MAX_THREADS];
static dim3 identity_of;
static Warp warp[MAX_WARPS];

static Fiber fiber[MAX_THREADS];
static Fiber main_fiber, *current;
static int made, idle[MAX_THREADS], idles;

static uint16_t ready[2 * MAX_THREADS]; /* a ring: at most one entry per thread */
static unsigned ready_head, ready_tail;
static uint16_t start_order[MAX_THREADS];
static int started;
static uint64_t random_state;

static struct {
    int arrived, predicates, result;
    const char *what, *file;
    int line;
} barrier;
static void (*kernel_call)(const void *);
static const void *kernel_arguments;

/* ---- fibers ------------------------------------------------------------------------------------------ */

static void work();

static void make_fresh(Fiber *f)
{
    /* Stacks that begin at the same place of a page would all fall into the same cache sets. */
    size_t colour = (size_t)512 * ((size_t)(f - fiber) % 31);
    context_make(f, work, colour);
}

static Fiber *take_fiber()
{
    if (idles) return &fiber[idle[--idles]];
    Fiber *f = &fiber[made++];
    if (!f->low) {
        char *m = (char *)mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (m == MAP_FAILED) fatal("no memory for the stack of a fiber");
        mprotect(m, GUARD_BYTES, PROT_NONE);
        f->low = m + GUARD_BYTES;
        f->high = f->low + STACK_BYTES;
    }
    make_fresh(f);
    return f;
}

static void go(Fiber *to)
{
    Fiber *from = current;
    current = to;
    block.stack_low = to->low;
    block.stack_high = to->high;
    context_switch(from, to);
}

static inline void become(int t)
{
    block.thread = t;
    thread_in_block_now = t;
    thread_index_now = identity[t];
}

static inline void make_ready(int t)
{
    thread[t].state = READY;
    ready[ready_tail++ % (2 * MAX_THREADS)] = (uint16_t)t;
}

static int next_ready()
{
    if (settings.order == REVERSED) return ready[--ready_tail % (2 * MAX_THREADS)];
    if (settings.order == RANDOM) {
        unsigned other = ready_head + next_random(&random_state) % (ready_tail - ready_head);
        uint16_t t = ready[other % (2 * MAX_THREADS)];
        ready[other % (2 * MAX_THREADS)] = ready[ready_head % (2 * MAX_THREADS)];
        ready[ready_head % (2 * MAX_THREADS)] = t;
    }
    return ready[ready_head++ % (2 * MAX_THREADS)];
}

static void report_deadlock()
{
    int count[DONE + 1] = {}, shown = 0, self = block.thread;
    for (int i = 0; i < block.threads; i++) count[thread[i].state]++;
    const Thread *before = nullptr;
    for (int i = 0; i < block.threads && shown < 3; i++) {
        const Thread *t = &thread[i];
        if (t->state != AT_BARRIER && t->state != IN_WARP) continue;
        if (before && before->what == t->what && before->line == t->line) continue;
        block.thread = i;
        report("deadlock: waits in %s at %s:%d, mask 0x%08x (of %d threads %d have exited, %d wait at a block barrier, "
               "%d in warp operations)",
               t->what, t->file, t->line, t->mask, block.threads, count[DONE], count[AT_BARRIER], count[IN_WARP]);
        shown++;
        before = t;
    }
    block.thread = self;
    block.failed = true;
}

/* Lets something else run; returns when `self` may go on. A fiber without a thread (-1) returns when there may be
 * threads to start. */
static void dispatch(int self)
{
    for (;;) {
        if (block.failed) go(&main_fiber);
        if (ready_head != ready_tail) {
            int t = next_ready();
            thread[t].state = RUNNING;
            become(t);
            if (t == self) return;
            if (self < 0) idle[idles++] = (int)(current - fiber);
            go(thread[t].fiber);
            return;
        }
        if (started < block.threads) {
            if (self < 0) return;
            go(take_fiber());
            return;
        }
        if (block.exited == block.threads) {
            if (self < 0) idle[idles++] = (int)(current - fiber);
            go(&main_fiber);
            return;
        }
        report_deadlock();
    }
}

static void thread_exit(int t)
{
    Warp *w = &warp[t / WARP];
    uint32_t bit = 1u << t % WARP;
    thread[t].state = DONE;
    block.exited++;
    w->live &= ~bit;
    w->exited |= bit;
    async_thread_exit(t);
    for (int i = 0; i < w->meetings; i++) {
        const Meeting *m = &w->meeting[i];
        if (!(m->mask & bit)) continue;
        report("thread exits while lanes 0x%08x wait for it in %s at %s:%d", m->arrived, m->what, m->file, m->line);
        block.failed = true;
    }
    if (barrier.arrived) {
        report("thread exits while %d threads wait in %s at %s:%d", barrier.arrived, barrier.what, barrier.file,
               barrier.line);
        block.failed = true;
    }
}

static void work()
{
    for (;;) {
        while (started < block.threads && !block.failed) {
            int t = start_order[started++];
            thread[t].state = RUNNING;
            thread[t].fiber = current;
            become(t);
            kernel_call(kernel_arguments);
            thread_exit(block.thread);
            if (ready_head != ready_tail) break;
        }
        dispatch(-1);
    }
}

void stop_kernel()
{
    block.failed = true;
    go(&main_fiber);
}

void forget_fibers()
{
    idles = 0;
    for (int i = made - 1; i >= 0; i--) {
        make_fresh(&fiber[i]);
        idle[idles++] = i;
    }
}

/* ---- a block ----------------------------------------------------------------------------------------- */

static void set_identities()
{
    dim3 b = block_dim_now;
    if (b.x == identity_of.x && b.y == identity_of.y && b.z == identity_of.z) return;
    identity_of = b;
    int t = 0;
    for (unsigned z = 0; z < b.z; z++)
        for (unsigned y = 0; y < b.y; y++)
            for (unsigned x = 0; x < b.x; x++) identity[t++] = uint3{ x, y, z };
}

static void order_threads()
{
    int n = block.threads;
    for (int i = 0; i < n; i++) start_order[i] = (uint16_t)(settings.order == REVERSED ? n - 1 - i : i);
    if (settings.order != RANDOM) return;
    random_state = settings.seed ^ (block.index + 1) * 0x9e3779b97f4a7c15u;
    for (int i = n - 1; i > 0; i--) {
        int j = (int)(next_random(&random_state) % (unsigned)(i + 1));
        uint16_t t = start_order[i];
        start_order[i] = start_order[j];
        start_order[j] = t;
    }
}

void run_threads(void (*call)(const void *), const void *arguments)
{
    set_identities();
    order_threads();
    kernel_call = call;
    kernel_arguments = arguments;
    for (int i = 0; i * WARP < block.threads; i++) {
        int lanes = block.threads - i * WARP;
        warp[i].meetings = 0;
        warp[i].exited = 0;
        warp[i].live = lanes >= WARP ? ~0u : (1u << lanes) - 1;
    }
    for (int i = 0; i < block.threads; i++) thread[i].state = FRESH;
    ready_head = ready_tail = 0;
    started = 0;
    block.exited = 0;
    barrier.arrived = 0;
    current = &main_fiber;
    block.running = true;
    go(take_fiber());
    block.running = false;
    if (block.failed) forget_fibers();
}

uint3 thread_identity(int t) { return identity[t]; }

/* ---- the block barrier --------------------------------------------------------------------------------- */

int block_barrier(int predicate, const char *what, const char *file, int line)
{
    int t = block.thread;
    if (block.exited) {
        report("%s at %s:%d after %d threads of the block have exited", what, file, line, block.exited);
        stop_kernel();
    }
    if (!barrier.arrived) {
        barrier.what = what;
        barrier.file = file;
        barrier.line = line;
        barrier.predicates = 0;
    } else if (barrier.line != line || strcmp(barrier.file, file) != 0) {
        report("divergent barrier: %s at %s:%d while %d threads wait at %s:%d", what, file, line, barrier.arrived,
               barrier.file, barrier.line);
        stop_kernel();
    }
    barrier.predicates += predicate;
    barrier.arrived++;
    if (barrier.arrived == block.threads) {
        barrier.arrived = 0;
        barrier.result = barrier.predicates;
        if (checked) shadow_barrier();
        for (int i = 0; i < block.threads; i++)
            if (i != t) make_ready(i);
        return barrier.result;
    }
    Thread *self = &thread[t];
    self->state = AT_BARRIER;
    self->what = what;
    self->file = file;
    self->line = line;
    self->mask = 0;
    dispatch(t);
    return barrier.result;
}

/* ---- warp operations ------------------------------------------------------------------------------------ */

static void check_mask(const Warp *w, int t, uint32_t mask, const char *what, const char *file, int line)
{
    int lanes = block.threads - t / WARP * WARP;
    if (!(mask >> t % WARP & 1))
        report("%s at %s:%d: lane %d is not in the mask 0x%08x that it gives", what, file, line, t % WARP, mask);
    else if (lanes < WARP && mask >> lanes)
        report("%s at %s:%d: mask 0x%08x names lanes that the block does not have (its last warp has %d)", what, file,
               line, mask, lanes);
    else if (mask & w->exited)
        report("%s at %s:%d: mask 0x%08x names lanes that have exited (0x%08x)", what, file, line, mask,
               mask & w->exited);
    else
        return;
    stop_kernel();
}

static Meeting *find_meeting(Warp *w, uint32_t mask, const char *what, const char *file, int line)
{
    for (int i = 0; i < w->meetings; i++) {
        Meeting *m = &w->meeting[i];
        if (m->mask == mask) {
            if (m->what == what && m->line == line && (m->file == file || !strcmp(m->file, file))) return m;
            report("divergent warp operation: %s at %s:%d while lanes 0x%08x wait in %s at %s:%d", what, file, line,
                   m->arrived, m->what, m->file, m->line);
            stop_kernel();
        }
    }
    Meeting *m = &w->meeting[w->meetings++];
    m->mask = mask;
    m->arrived = 0;
    m->what = what;
    m->file = file;
    m->line = line;
    return m;
}

uint64_t meet(uint32_t mask, const char *what, uint64_t bits, int64_t extra, MeetingWork perform, const char *file,
              int line)
{
    int t = block.thread, lane = t % WARP;
    Warp *w = &warp[t / WARP];
    if (mask != w->live || !(mask >> lane & 1)) check_mask(w, t, mask, what, file, line);
    Meeting *m = find_meeting(w, mask, what, file, line);
    m->in[lane] = bits;
    m->extra[lane] = extra;
    m->arrived |= 1u << lane;
    if (m->arrived == mask) {
        Meeting done = *m;
        *m = w->meeting[--w->meetings];
        perform(&done);
        if (block.failed) go(&main_fiber);
        int first = t / WARP * WARP;
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
            int l = __builtin_ctz(rest);
            thread[first + l].result = done.out[l];
            if (l != lane) make_ready(first + l);
        }
        return done.out[lane];
    }
    Thread *self = &thread[t];
    self->state = IN_WARP;
    self->what = what;
    self->file = file;
    self->line = line;
    self->mask = mask;
    dispatch(t);
    return self->result;
}

uint32_t active_mask() { return warp[block.thread / WARP].live; }

} // namespace cudasim
