/* table.c - the roll call: an operator of ops.def without a CPU kernel does not link. All pointwise rows, and
 * broadcast, share the kernel of fused chains. */
#include "cpu.h"

#define OP(name, n_in, meaning) extern const struct qn__kernel QN_CAT(qn__cpu_##name, KIND);
#define PW(name, n_in, meaning, expression)
#include "../../core/ops.def"
#undef OP

static const struct qn__kernel *const table[] = {
    NULL,
#define OP(name, n_in, meaning) &QN_CAT(qn__cpu_##name, KIND),
#define PW(name, n_in, meaning, expression) &QN_CAT(qn__cpu_fused, KIND),
#include "../../core/ops.def"
#undef OP
};

extern const struct qn__backend QN_CAT(qn__cpu, KIND);
const struct qn__backend QN_CAT(qn__cpu, KIND) = { .name = "cpu", .kernel = table };
