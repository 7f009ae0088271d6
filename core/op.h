/* op.h - what an operator is to core, and what core/ops/<op>.c may use. Private to core/. */
#ifndef QN_CORE_OP_H
#define QN_CORE_OP_H
#include "backend.h"
#include "../include/quern/core.h"

struct qn__node {
    enum qn__opcode op;
    int32_t n_in;
    int32_t in[QN_MAX_IN];
    qn_dtype dtype;
    int32_t rank;
    int64_t dim[QN_MAX_DIMS];
    int64_t count;
    int32_t block; /* physical layout; QN_PLAIN until the layout pass */
    qn_phase phase;
    const char *name; /* scoped name, owned by the graph; "" if none */
    void *attr;       /* owned by the graph; NULL if the operator has none */
    const void *data; /* constant: its bytes */
};

struct qn__cost {
    double flops, bytes;
};

/* How an operator stands to physical layouts of its rank-4 operands. */
enum qn__layout_rule {
    QN_LAYOUT_PLAIN,  /* needs plain operands, gives plain                                             */
    QN_LAYOUT_SAME,   /* any block, the same for every full-size operand; gives that block              */
    QN_LAYOUT_REDUCE, /* takes any block if layout_ok says so; gives plain                              */
    QN_LAYOUT_ASK,    /* the kernel's pick says what it wants and gives                                 */
};

/* Everything core knows of one operator. A row of ops.def without its struct qn__op_<name> does not link. */
struct qn__op {
    const char *name;
    /* Checks the operands and fills y's dtype, rank and dim (count is filled by the caller). On failure raises err
     * with a message that ends in what was expected; shapes and scope are added by the caller. */
    qn_status (*infer)(const struct qn__node *const *x, struct qn__node *y, qn_error *err);
    /* dx[i] = contribution to the gradient of operand i, or {0}: graph constructors only. y is a copy. */
    void (*vjp)(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx);
    /* The same for an operator with further results: dy[0] is that of y, dy[1 + k] that of result k; {0}: none. */
    void (*vjp_all)(qn_graph *g, const struct qn__node *y, qn_t self, const qn_t *dy, qn_t *dx);
    const char *no_gradient; /* why, if it has neither vjp nor vjp_all */
    bool flat;               /* derivative zero almost everywhere: a gradient stops here instead of failing */
    struct qn__cost (*cost)(const struct qn__node *const *x, const struct qn__node *y); /* NULL: 1 flop an element */
    size_t attr_size;
    uint32_t writes; /* bit i: operand i is a store tensor that is written in place */
    enum qn__layout_rule layout;
    int more;       /* results beside y, made by qn__output; 0 for most           */
    bool pointwise; /* a PW row or fused                                          */
    bool in_place;  /* y may take the bytes of an operand of y's size that dies here */
    bool alias;     /* y is operand 0's bytes under other dims (reshape)           */
    bool effect;    /* must not be removed, merged or moved across others          */
};

extern const struct qn__op
#define OP(name, n_in, meaning) qn__op_##name,
#include "ops.def"
#undef OP
    qn__op_none;

/* The descriptor of an opcode; its number of operands in ops.def (-1: any). */
const struct qn__op *qn__op_of(enum qn__opcode op);
int qn__arity_of(enum qn__opcode op);
static inline bool qn__has_gradient(const struct qn__op *op) { return op->vjp || op->vjp_all; }

/* ---- for constructors and gradients --------------------------------------------------------- */

/* Appends a node: the one way to build. attr (op->attr_size bytes) is copied. Sticky. */
qn_t qn__node(qn_graph *g, enum qn__opcode op, const qn_t *x, int n_in, const void *attr);
/* The same with the result's dims given (sources, broadcast, reshape, grad rows whose shape is not in the operands). */
qn_t qn__node_shaped(qn_graph *g, enum qn__opcode op, const qn_t *x, int n_in, const void *attr, qn_dtype dtype,
                     int rank, const int64_t *dims, const char *name, const void *data);
/* Result `index` beside y of an operator with several: one node however often it is asked for. */
qn_t qn__output(qn_graph *g, qn_t y, int index, qn_dtype dtype, int rank, const int64_t *dims);
/* The node of a value; node 0 if t is no value of g. Invalid after the next append. */
const struct qn__node *qn__at(const qn_graph *g, qn_t t);
#define qn__graph_fail qn_graph_fail
bool qn__failed(const qn_graph *g);
/* "scope.name" in the graph's memory. */
const char *qn__scoped(qn_graph *g, const char *name);
void *qn__graph_copy(qn_graph *g, const void *data, size_t bytes);
/* A tensor I64 [count] of zeros that has one name whatever the scope. The name must outlive the graph. */
qn_t qn__global_tensor(qn_graph *g, qn_kind kind, const char *name, int64_t count);

/* Operand i of node y as a value. */
static inline qn_t qn__in(const struct qn__node *y, int i) { return (qn_t){ y->in[i] }; }

/* ---- shape rules and gradients that several operators share ----------------------------------- */

/* y like operand 0 */
qn_status qn__infer_like(const struct qn__node *const *x, struct qn__node *y, qn_error *err);
/* y.dim: the dims of all operands broadcast together; dtype is the caller's */
qn_status qn__infer_broadcast(const struct qn__node *const *x, struct qn__node *y, qn_error *err);
/* float operand; y.dim = x.dim without (or, if keep, with 1 for) the axes of struct qn__reduce_attr */
qn_status qn__infer_reduce(const struct qn__node *const *x, struct qn__node *y, qn_error *err);
/* the same where there is no result for nothing (max, min): the reduced extent must not be empty */
qn_status qn__infer_extreme(const struct qn__node *const *x, struct qn__node *y, qn_error *err);
/* gradient of reduce_max and reduce_min */
void qn__vjp_extreme(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx);
/* appends the reduction `op` of x; axes may be QN_ALL_AXES */
qn_t qn__reduce(qn_graph *g, enum qn__opcode op, qn_t x, uint32_t axes, bool keep);
/* t, of the shape of a reduction of operand 0 of y, with 1 for each reduced axis: it broadcasts against the operand */
qn_t qn__unreduced(qn_graph *g, const struct qn__node *y, qn_t t);
/* y like operand 0, which must be a store tensor or the result of a write to one (op->writes) */
qn_status qn__infer_written(const struct qn__node *const *x, struct qn__node *y, qn_error *err);
/* the dtype of the optimizers' hyper: F32, of weights in F64 F64 */
qn_status qn__check_hyper(const struct qn__node *hyper, qn_dtype weights, qn_error *err);
/* costs: no arithmetic, every operand read and the result written; one operation per element of operand 0 */
struct qn__cost qn__cost_move(const struct qn__node *const *x, const struct qn__node *y);
struct qn__cost qn__cost_each(const struct qn__node *const *x, const struct qn__node *y);
/* Result of NumPy broadcasting of two shapes; false if they do not fit. */
bool qn__broadcast_dims(int *rank, int64_t *dim, int rank_a, const int64_t *a, int rank_b, const int64_t *b);
bool qn__same_dims(const struct qn__node *a, const struct qn__node *b);
/* "[32,1,28,28]" */
struct qn__dims_text {
    char s[QN_MAX_DIMS * 21 + 3];
};
struct qn__dims_text qn__dims_show(int rank, const int64_t *dim);
/* F64 if any float operand or the result is F64 (or only integers wider than 24 bits take part), else F32. */
qn_dtype qn__compute_dtype(const struct qn__node *const *x, const struct qn__node *y);

/* One element of a pointwise row in double: its definition. */
double qn__pw_eval(enum qn__opcode op, double a, double b, double c, double p, double q);
/* Rows whose result is BOOL. */
bool qn__pw_compares(enum qn__opcode op);
bool qn__is_pointwise(enum qn__opcode op); /* a PW row */
#endif
