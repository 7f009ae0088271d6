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

/* Rows that move bytes, and pointwise ones, which convert what they read and write. */
static bool takes_any_type(enum qn__opcode op)
{
    static const bool moves[QN_OP_COUNT] = {
        [QN_OP_broadcast] = true, [QN_OP_slice] = true,  [QN_OP_concat] = true, [QN_OP_pad] = true,
        [QN_OP_transpose] = true, [QN_OP_gather] = true, [QN_OP_assign] = true, [QN_OP_reorder] = true,
    };
    return moves[op] || table[op] == &QN_CAT(qn__cpu_fused, KIND);
}

static bool narrow(const struct qn__view *v) { return v->dtype == QN_BF16 || v->dtype == QN_F16; }

/* Loops are compiled for float and double. */
static const char *expects(const struct qn__args *a)
{
    bool any = narrow(&a->y);
    for (int i = 0; i < a->n_in; i++) any = any || narrow(&a->x[i]);
    return any && !takes_any_type(a->op) ? "F32 or F64" : NULL;
}

extern const struct qn__backend QN_CAT(qn__cpu, KIND);
const struct qn__backend QN_CAT(qn__cpu, KIND) = { .name = "cpu", .kernel = table, .expects = expects };
