/* ops.h - how to test an operator: write tests/ops/<op>.c with a table of cases, and nothing else.
 *
 * A case says which operands to make and how to build the operator on them. From that alone the runner checks
 * (test_ops.c, test_gradients.c, test_parity.c), for every case:
 *
 *   value      the f64 kernel against the case's oracle (plain loops written from the definition), if it has one
 *   precision  the f32 kernel against the f64 kernel, within the case's bound (below)
 *   class      the same with NaN, +inf and -inf planted in each operand: NaN and infinities at the same places
 *   bits       run twice, from differently filled memory, and with 1, 2 and 5 threads: equal bytes
 *   memory     sentinels around every operand, result and workspace are intact; operands are not modified,
 *              except those that op->writes names; if op->in_place, equal bytes when y lies on an operand
 *   layout     rank-4 operands in blocks of 8, 16 and C, where the operator's layout rule allows: equal values
 *   gradient   if op->vjp: central differences in f64 through qn_grad, qn_compile and qn_program_run, with Richardson
 *              extrapolation, relative error <= 1e-6, for each operand that carries a gradient
 *   variants   which variant of the kernel was picked; a variant that no case reaches fails test_parity
 *
 * Example, tests/ops/softmax.c:
 *
 *     #include "ops.h"
 *     #include <math.h>
 *
 *     static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
 *     {
 *         (void)c;
 *         return qn_softmax(g, x[0]);
 *     }
 *
 *     static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
 *     {
 *         int64_t v = c->in[0].dim[1];
 *         for (int64_t r = 0; r < x[0].count / v; r++) { ... y->v[r * v + j] = ...; }
 *     }
 *
 *     #define SIZE(n) { .name = #n, .build = build, .oracle = oracle, .n_in = 1, .ulps = 8, \
 *                       .in = { { .rank = 2, .dim = { 3, n } } } },
 *     static const struct op_case cases[] = {
 *         OP_SIZES(SIZE)
 *         { .name = "large", .build = build, .n_in = 1, .ulps = 8,
 *           .in = { { .rank = 2, .dim = { 64, 1000 }, .low = -80, .high = 80 } } },
 *     };
 *     OP_CASES(softmax, cases);
 *
 * Rows that have no constructor (gradients, fused, reorder) are built with qn__node (core/op.h is included here).
 * Keep cases small; a case for a variant that needs size may be large: gradients look at all elements of operands of up
 * to 100, else at 48 of each, and at 8 if the result has more than 4096. Cover the sizes of OP_SIZES (0 is the empty
 * tensor), one row, and each attribute that changes the work. */
#ifndef QN_TESTS_OPS_H
#define QN_TESTS_OPS_H
#include "../../core/base.h"
#include "../../core/op.h"
#include "../lib/drive.h"

/* X(n) for each size that a loop over SIMD lanes, tiles and threads must survive */
/* clang-format off */
#define OP_SIZES(X) X(0) X(1) X(31) X(33) X(127) X(129) X(257)
/* clang-format on */

/* What the elements of an operand are. Floats are exactly representable in f32. low = high = 0 means [-2,2). */
enum op_values {
    OP_UNIFORM,  /* uniform in [low,high); integers: whole numbers of it, default [0,2)              */
    OP_DISTINCT, /* evenly spaced over [low,high) in random order: no two equal or close (max, argmax) */
    OP_AWAY,     /* magnitude uniform in [low,high), default [0.25,2), random sign: away from a kink at 0 */
    OP_TIES,     /* whole numbers of [low,high), default [-2,3): many equal                           */
    OP_ZEROS,
};

struct CMUnitTest;
struct op_case;
struct op_in {
    qn_dtype dtype; /* QN_F32 (0): f32 or f64, as the run is; any other: itself        */
    int rank;
    int64_t dim[QN_MAX_DIMS];
    enum op_values values;
    double low, high;
    bool constant; /* carries no gradient (integer operands never do)                  */
    bool stored;   /* a tensor of the store, not an input: what op->writes needs       */
    /* Changes values after they were drawn: n elements of dtype at data. NULL: none. */
    void (*edit)(const struct op_case *c, void *data, qn_dtype dtype, int64_t n);
};

/* A value as doubles, logical order. */
struct op_data {
    qn_dtype dtype;
    int rank;
    int64_t dim[QN_MAX_DIMS], count;
    double *v;
};

/* Appends the operator (and whatever it needs) to g; x: the operands. Element type of the run: that of x[i]. */
typedef qn_t op_build(qn_graph *g, const qn_t *x, const struct op_case *c);

struct op_case {
    const char *name;
    op_build *build;
    int n_in;
    struct op_in in[QN_MAX_IN];
    int64_t p[8]; /* for build, oracle, edit: attributes of the case */
    double q[4];

    /* The result, from the definition. y->v is zeroed. The f64 kernel must agree within the bound for f64. */
    void (*oracle)(const struct op_case *c, const struct op_data *x, struct op_data *y);
    /* If the operator writes operands in place: what operand `which` holds afterwards (default: not compared with an
     * oracle; f32 against f64 always is). */
    void (*oracle_written)(const struct op_case *c, int which, const struct op_data *x, struct op_data *after);

    /* How far the f32 kernel may be from the f64 kernel, and the f64 kernel from the oracle; eps is 2^-24 or 2^-53.
     *   exact: equal.   default: ulps * 2 eps |y|, ulps 0 meaning 4.
     *   terms > 0: for sums of `terms` products: (terms + ulps) 2 eps times the operator's own result on |x| (every
     *              float operand replaced by its magnitude), i.e. the bound gamma_n sum |a||b|.
     *   bound: the absolute error allowed in element i, derived by the case; overrides all. */
    bool exact;
    double ulps, terms;
    double (*bound)(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double eps);
    /* The same for element i of stored operand `which` after the run; NULL: ulps * 2 eps |value|, or exact. */
    double (*bound_written)(const struct op_case *c, int which, const struct op_data *x, const struct op_data *after,
                            int64_t i, double eps);

    /* For runs in 16 bits, which round once. Where a library lacks the bias or activation of a row, its product is
     * stored in 16 bits and a kernel of our own goes on from there, so that value is rounded too: its magnitude, times
     * what a change of it does to element i of the result. Where the library's epilogue has them all, they are f32
     * until the result is stored: NULL, or 0. The same for what a row stores on its way, or a case that is several
     * rows. */
    double (*between)(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i);

    double step;                   /* largest step of the differences; 0 means 2^-6 max(|x|, 0.25) */
    const char *no_gradient_check; /* why, e.g. "at a tie there is no derivative": another case must check it */
    const char *fixed_threads;     /* why the f32 kernel may round otherwise with another number of threads */
    const char *finite_only;       /* why planted NaN and infinities may differ between f32 and f64 */
    const char *fails;             /* the exact error of the run that this case provokes; nothing else is checked */
};

struct op_cases {
    const struct op_case *c;
    int n;
};
/* Ends a file of cases: the row of core/ops.def that they are for. */
#define OP_CASES(row, array) \
    extern const struct op_cases cases_##row; \
    const struct op_cases cases_##row = { array, (int)(sizeof(array) / sizeof(array)[0]) }

/* By opcode; an operator of ops.def without cases does not link. */
extern const struct op_cases *const op_cases_of[QN_OP_COUNT];

/* ---- for the programs that run the cases (direct.c, reference.c, roll.c) ---------------------------- */

/* The cases on another backend: for each row and each of op_cases_of[row],
 *
 *     struct direct wide = direct_run(op, c, QN_F64, &plain, NULL);   (plain.on == NULL: the CPU)
 *     struct op_reference r = op_reference_of(&wide);
 *     struct direct got = direct_run(op, c, QN_F32, &there, NULL);    (there.on: the backend and its device)
 *     op_check(&r, &got, 0x1p-24, "backend against the f64 kernel");
 *
 * Kernels run one by one on guarded memory, without compiler and plan. */
struct direct_opts {
    const struct drive_on *on; /* where the row runs; NULL: the CPU */
    int threads;
    int32_t block;      /* of rank-4 operands; QN_PLAIN: nothing else; QN_ANY_BLOCK: plain, the result open */
    unsigned char fill; /* what memory holds before it is written      */
    bool in_place;      /* put y on an operand where the row allows it */
    qn_dtype storage;   /* operands of floats are rounded to this type first; QN_F32: as drawn */
};
/* A case built and run once. */
struct direct {
    enum qn__opcode op; /* the row under test */
    const struct op_case *c;
    qn_dtype real, storage;
    qn_graph *g;
    qn_t x[QN_MAX_IN], y;
    struct direct_value *value; /* by id */
    qn_status status;           /* of the run */
    qn_error err;
    bool blocked, on_operand; /* whether opts.block, opts.in_place made any difference */
};
/* Changes one operand's element before a run: {operand, element, value}; operand < 0: none. */
struct direct_plant {
    int operand;
    int64_t element;
    double value;
    bool magnitudes;
};

/* Builds a case and runs it on opts->on, operands of floats as `real`. Rows beside the one under test run there too if
 * the backend has them, else on the CPU. Fails the running test if the case cannot be built or a kernel writes where it
 * must not. Free with direct_free. */
struct direct direct_run(enum qn__opcode op, const struct op_case *c, qn_dtype real, const struct direct_opts *opts,
                         const struct direct_plant *plant);
void direct_free(struct direct *d);
/* Whether the graph of a case can be built with operands of this type: not every row takes BF16 and F16. */
bool direct_builds(enum qn__opcode op, const struct op_case *c, qn_dtype real);
/* Whether the kernel of `on` says that it takes the row's floats of a case in this type, whatever the shape rule. */
bool direct_takes(enum qn__opcode op, const struct op_case *c, qn_dtype real, const struct drive_on *on);
/* A value's bytes in logical order after the run: the result is d->y, operand i is d->x[i]. Free with free(). */
void *direct_bytes(const struct direct *d, qn_t t, size_t *bytes);
/* The result, and operand i as it is after the run, as doubles. Caller frees v with free(). */
struct op_data direct_result(const struct direct *d);
struct op_data direct_operand(const struct direct *d, int i);
/* Equal bytes of results and written operands. */
bool direct_same_bits(const struct direct *a, const struct direct *b);
/* A hash of those bytes, to compare runs in different processes. */
uint64_t direct_hash(const struct direct *d);
/* The values of operand i of a case, n elements of dtype at data. */
void op_fill(const struct op_case *c, int i, qn_dtype real, void *data);
/* Rounds n elements of dtype to a narrower type; QN_F32: leaves them. */
void op_round(void *data, qn_dtype dtype, qn_dtype storage, int64_t n);
qn_dtype op_in_dtype(const struct op_in *in, qn_dtype real);
int64_t op_in_count(const struct op_in *in);

/* What the result of a case is held against, on any backend: the double kernels of the CPU. */
struct op_reference {
    const struct op_case *c;
    struct op_data x[QN_MAX_IN], after[QN_MAX_IN]; /* operands before and after the run */
    struct op_data y, magnitude;                   /* magnitude: of the run on |x|, where the bound needs it */
};
/* wide: a run of the case with operands of QN_F64 on the CPU. Free with op_reference_free. */
struct op_reference op_reference_of(const struct direct *wide);
void op_reference_free(struct op_reference *r);
/* Fails the test unless result and written operands of another run are within the case's bound for unit roundoff eps
 * (2^-24: f32). Returns the largest error as a share of its bound. */
double op_check(const struct op_reference *r, const struct direct *got, double eps, const char *what);
/* The same of a run in BF16 or F16 with arithmetic in f32: within the case's bound for f32 and one rounding of each
 * result to its type. The reference is of operands rounded to that type (direct_opts.storage). */
double op_check_rounded(const struct op_reference *r, const struct direct *got, const char *what);
/* The same of single arrays: the result, stored operand `which` after the run. */
double op_compare(const struct op_reference *r, const double *got, const double *want, double eps, const char *what);
void op_compare_written(const struct op_reference *r, int which, const double *got, const double *want, double eps,
                        const char *what);
bool op_same_class(double a, double b); /* both finite, both NaN, or the same infinity */

/* Times each variant was launched, by target, opcode and variant. */
enum { DIRECT_F32, DIRECT_F64, DIRECT_OTHER, DIRECT_TARGETS, OP_MAX_VARIANTS = 16 };
extern uint64_t direct_hits[DIRECT_TARGETS][QN_OP_COUNT][OP_MAX_VARIANTS];
/* Blocks that the layout checks try: none but the result's left to the kernel, 8, 16 and the number of channels. */
int op_blocks(const struct op_case *c, int32_t block[4]);
/* The rest of a main: runs a test for each row that the command line names, or for all; its state is the
 * enum qn__opcode *. `has`: whether a row takes part; NULL: all do. `last`: `n_last` tests after
 * them, run when the command line names no row. */
int op_run_rows(const char *name, void (*test)(void **state), bool (*has)(enum qn__opcode op),
                const struct CMUnitTest *last, size_t n_last, int argc, char **argv);
#endif
