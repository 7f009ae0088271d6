/* pass.h - rewriting a graph: every pass reads one graph and writes another. Private to core/. */
#ifndef QN_CORE_PASS_H
#define QN_CORE_PASS_H
#include "graph_impl.h"

/* What a pass must respect: values in keep[] are read by the caller after the step, so each must still exist in
 * the result, computed exactly (a kept value is never swallowed by a fusion). */
struct qn__pass_env {
    const int32_t *keep;
    int n_keep;
    const struct qn__backend *backend[2]; /* f32 and f64: whose kernels the layout pass asks   */
    int threads;
};

/* map[i] is the value of `out` that stands for value i of `in` (0: gone). Both graphs belong to the caller; out is
 * empty (qn__graph_like). map has in->n elements, zeroed. Bits of results do not change, except where a pass's own
 * file says so. Golden dumps in tests/core/golden are the tests of the passes. */
typedef qn_status qn__pass(const qn_graph *in, qn_graph *out, int32_t *map, const struct qn__pass_env *env,
                           qn_error *err);

/* Drops what neither a kept value nor an effect (op->effect, op->writes) needs. */
qn__pass qn__pass_dead;
/* Computes at compile time what depends on nothing but `full` and `constant`; x*1, x+0, 0*const, affine(1,0),
 * reshape of reshape, transpose of transpose, broadcast feeding a pointwise row that broadcasts anyway. */
qn__pass qn__pass_fold;
/* Merges equal values: same operator, operands, attributes, dims and phase, without effect, and with no write to
 * a store tensor they read between the two. */
qn__pass qn__pass_cse;
/* matmul/conv2d + bias + activation -> one node; only if the value in between has no other reader. batch_norm +
 * relu likewise. */
qn__pass qn__pass_epilogue;
/* Chains and trees of pointwise rows -> one `fused` node, as long as the inner values have no reader outside. */
qn__pass qn__pass_fuse;
/* Chooses the physical order of every rank-4 value and inserts `reorder` nodes where an operator wants another;
 * asks the kernels' pick (QN_LAYOUT_ASK). */
qn__pass qn__pass_layout;

/* Readers of each value (count of operand slots), kept values counting one more. readers: in->n elements. */
void qn__count_readers(const qn_graph *g, const struct qn__pass_env *env, int32_t *readers);
#endif
