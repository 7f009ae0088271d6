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
    const struct qn__gpu *gpu;            /* NULL: the CPU */
    int threads;
};

/* map[i] is the value of `out` that stands for value i of `in` (0: gone). Both graphs belong to the caller; out is
 * empty (qn__graph_like). map has in->n elements, zeroed. Bits of results do not change, except where a pass's own
 * file says so. Golden dumps in tests/core/golden are the tests of the passes. */
typedef qn_status qn__pass(const qn_graph *in, qn_graph *out, int32_t *map, const struct qn__pass_env *env,
                           qn_error *err);

/* Drops what neither a kept value nor an effect (op->effect, op->writes) needs, and puts sources and the micro phase
 * before the update phase: the later passes rely on ids being the order of execution. */
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
/* Sums before and after a normalisation go into it. */
qn__pass qn__pass_residual;
/* Chains and trees of pointwise rows -> one `fused` node, as long as the inner values have no reader outside. */
qn__pass qn__pass_fuse;
/* Chooses the physical order of every rank-4 value and inserts `reorder` nodes where an operator wants another;
 * asks the kernels' pick (QN_LAYOUT_ASK). */
qn__pass qn__pass_layout;

/* Readers of each value (count of operand slots), kept values counting one more. readers: in->n elements. */
void qn__count_readers(const qn_graph *g, const struct qn__pass_env *env, int32_t *readers);

/* Which tensor of the store each value is (0: none; seen through aliases and writes), and every write to one, so
 * that a pass can tell whether a read may move. Zeroed before qn__writes_find; qn__writes_free always. */
struct qn__write {
    int32_t root, at;
};
struct qn__writes {
    const qn_graph *g;
    int32_t *root;
    struct qn__write *write; /* by root, then position */
    size_t n, cap;
};
qn_status qn__writes_find(struct qn__writes *w, const qn_graph *g, qn_error *err);
void qn__writes_free(struct qn__writes *w);
/* Is the memory of `value` written by a node between `from` and `to` (neither included)? */
bool qn__written_between(const struct qn__writes *w, int32_t value, int32_t from, int32_t to);

/* Appends a node to a pass's result in the place of `like`: its phase and name. Dims by op's shape rule, or like's
 * if the shape stands in the node (reshape, broadcast, full). Returns its index, 0 on failure. */
int32_t qn__pass_node(qn_graph *out, const struct qn__node *like, enum qn__opcode op, const int32_t *in, int n_in,
                      const void *attr);
#endif
