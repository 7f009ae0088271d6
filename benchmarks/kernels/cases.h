/* cases.h - what is benchmarked: operators at sizes that real networks have. */
#ifndef QN_BENCHMARKS_KERNELS_CASES_H
#define QN_BENCHMARKS_KERNELS_CASES_H
#include "../../core/op.h"

enum bench_values { BENCH_UNIFORM, BENCH_INDEX, BENCH_HYPER, BENCH_POSITIVE, BENCH_SUMS }; /* sums: F32 always */

struct bench_operand {
    qn_dtype dtype; /* QN_F32, but for sums, stands for the case's dtype */
    int rank;
    int64_t dim[4];
    enum bench_values values;
    int64_t limit; /* BENCH_INDEX: indices below it */
};

struct bench_case {
    const char *name;
    enum qn__opcode op;
    qn_dtype dtype;
    const void *attr;
    int n_in;
    struct bench_operand x[QN_MAX_IN], y;
    double terms;   /* products or summands behind one result, for the bound of its error */
    double between; /* what a kernel of 16 bits rounds to its type on the way to a result, summed magnitudes */
};
extern const struct bench_case bench_cases[];
extern const int bench_n_cases;

#endif
