/* cases.h - what is benchmarked: operators at sizes that real networks have. */
#ifndef QN_BENCHMARKS_KERNELS_CASES_H
#define QN_BENCHMARKS_KERNELS_CASES_H
#include "../../core/op.h"

enum bench_values { BENCH_UNIFORM, BENCH_INDEX, BENCH_HYPER, BENCH_POSITIVE, BENCH_SUMS };

struct bench_operand {
    qn_dtype dtype; /* QN_F32 stands for the case's dtype */
    int rank;
    int64_t dim[6];
    enum bench_values values;
    int64_t limit; /* BENCH_INDEX: indices below it */
    bool plain;    /* filters: in the order of the graph, whatever images have */
    bool single;   /* f32 in a case of 16 bits too: statistics */
};

struct bench_case {
    const char *name;
    enum qn__opcode op;
    qn_dtype dtype;
    const void *attr;
    int n_in;
    struct bench_operand value[1 + QN_MAX_IN]; /* the result, then the operands */
    double terms;                              /* products or summands behind one result, for the bound of its error */
    double between; /* what a kernel of 16 bits rounds to its type on the way to a result, summed magnitudes */
    /* --check and the simulator: every extent of `many` is taken as `few`, so that a case of a network's shape is small
     * enough to be run and counted there. 0: the case is small anyhow, and not one to judge traffic by. */
    int64_t many, few;
    const void *few_attr; /* the attribute then; NULL: the same */
    bool nhwc;            /* operands and results of rank 4 lie in this order */
};
extern const struct bench_case bench_cases[];
extern const int bench_n_cases;

#endif
