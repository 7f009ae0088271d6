/* trace.c - see trace.h. NVTX is headers only: it looks for a profiler by itself, when the first range is pushed. */
#include "trace.h"
#if defined(__has_include)
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define HAS_NVTX 1
#endif
#endif

const char *qn__op_name(enum qn__opcode op)
{
    static const char *const names[] = {
        "none",
#define OP(name, n_in, meaning) #name,
#include "../../core/ops.def"
#undef OP
    };
    return op < QN_OP_COUNT ? names[op] : "?";
}

#ifdef HAS_NVTX
void qn__range_push(enum qn__opcode op) { nvtxRangePushA(qn__op_name(op)); }
void qn__phase_push(int phase) { nvtxRangePushA(phase ? "update" : "micro"); }
void qn__range_pop(void) { nvtxRangePop(); }
#else
void qn__range_push(enum qn__opcode op) { (void)op; }
void qn__phase_push(int phase) { (void)phase; }
void qn__range_pop(void) {}
#endif
