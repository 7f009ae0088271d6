/* cpu.h - what every CPU kernel file includes. Each file in kernels/cpu is compiled twice:
 * -DREAL=float -DKIND=f32 and -DREAL=double -DKIND=f64. The double build is the oracle for gradients.
 *
 * File shape: (1) formula and layout of each operand, (2) the loops, (3) pick, (4) launch, (5) the kernel struct.
 * Loops that matter are multi-versioned with QN_CLONES so that the vector width is chosen when the program
 * starts, never with -march=native. Sums of floats run in a fixed order that does not depend on the number of
 * threads: partition by output element, or by fixed-size blocks whose partial sums are added in order. */
#ifndef QN_KERNELS_CPU_H
#define QN_KERNELS_CPU_H
#include "../../core/backend.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define QN_CAT_(a, b) a##_##b
#define QN_CAT(a, b) QN_CAT_(a, b)

/* The descriptor of an operator's kernel: KERNEL(sum) = { .pick = ..., .launch = ... }; */
#define KERNEL(op) \
    extern const struct qn__kernel QN_CAT(qn__cpu_##op, KIND); \
    const struct qn__kernel QN_CAT(qn__cpu_##op, KIND)

#define QN_IS_F32 (sizeof(REAL) == 4)
#define QN_REAL_DTYPE (QN_IS_F32 ? QN_F32 : QN_F64)

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && defined(__GNUC__) && !defined(__clang__)
#define QN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define QN_CLONES
#endif

/* Name of a variant that only one of the two builds has; last in its list, so that the other's ends before it. */
#define QN_F32_ONLY(name) (QN_IS_F32 ? (name) : NULL)
#define QN_F64_ONLY(name) (QN_IS_F32 ? NULL : (name))

/* Elements of a view as REAL; only for views whose dtype is QN_REAL_DTYPE. */
static inline REAL *qn__real(const struct qn__view *v) { return (REAL *)v->data; }

/* Element-count below which a parallel region costs more than it saves. */
enum { QN_PARALLEL_MIN = 16384 };
static inline int qn__threads_for(const struct qn__args *a, int64_t elements)
{
    return elements < QN_PARALLEL_MIN ? 1 : a->threads;
}

/* A rank-4 value with channel block b as [n][cb][s][b]: s = H*W, cb = C/b. Batch norm, pooling and per-channel
 * sums are written once over these four numbers and serve every layout. Rank-2 values [n][C] are one block of C. */
struct qn__blocked {
    int64_t n, cb, s, b;
};
static inline struct qn__blocked qn__blocked_of(const struct qn__view *v)
{
    if (v->rank == 2) return (struct qn__blocked){ v->dim[0], 1, 1, v->dim[1] };
    return (struct qn__blocked){ v->dim[0], v->dim[1] / v->block, v->dim[2] * v->dim[3], v->block };
}
#endif
