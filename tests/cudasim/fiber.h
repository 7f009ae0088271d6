/* fiber.h - switching stacks, and the rendezvous of lanes, for fiber.cpp and warp.cpp. */
#ifndef QN_TESTS_CUDASIM_FIBER_H
#define QN_TESTS_CUDASIM_FIBER_H
#include "engine.h"
#ifndef __x86_64__
#include <ucontext.h>
#endif

/* What kernels see as constants (cudasim.h). */
#pragma GCC visibility push(default)
extern uint3 thread_index_now __asm__("threadIdx"), block_index_now __asm__("blockIdx");
extern dim3 block_dim_now __asm__("blockDim"), grid_dim_now __asm__("gridDim");
namespace cudasim
{
extern int thread_in_block_now __asm__("_ZN7cudasim15thread_in_blockE");
}
#pragma GCC visibility pop

namespace cudasim
{

enum { STACK_BYTES = 160 * 1024, GUARD_BYTES = 4096, MAX_MEETINGS = WARP };

struct Fiber {
    char *low, *high; /* NULL for the stack that called the runtime */
#ifdef __x86_64__
    void *top;
#else
    ucontext_t context;
#endif
};
void context_make(Fiber *f, void (*entry)(), size_t colour);
void context_switch(Fiber *from, Fiber *to);

/* Lanes at one warp operation. */
struct Meeting {
    uint32_t mask, arrived;
    const char *what, *file;
    int line;
    uint64_t in[WARP], out[WARP];
    int64_t extra[WARP];
};
typedef void (*MeetingWork)(Meeting *);
/* Waits for all lanes of the mask, performs the work once, and returns this lane's `out`. */
uint64_t meet(uint32_t mask, const char *what, uint64_t bits, int64_t extra, MeetingWork perform, const char *file,
              int line);

uint3 thread_identity(int t);

} // namespace cudasim
#endif
