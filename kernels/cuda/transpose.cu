/* transpose.cu - y.dim[i] = x.dim[perm[i]], any element type.
 *
 * Compulsory bytes: x read once, y written once. If the last dimension stays, rows are copied (copy_strided of
 * move.cu); else matrices of the last dimensions of x and of y are turned over through shared memory (turn_tiled,
 * turn_thin), coalesced on both sides. If both of these dimensions are small, a warp's elements lie near each other in x
 * anyway, and they are copied. */
#include "move.h"

enum { COPY, TILED, THIN };

/* y as a box over x: steps of x in the order of y's axes. */
static struct copy_from copy_of(const struct qn__args *a)
{
    const struct qn__transpose_attr *attr = (const struct qn__transpose_attr *)a->attr;
    struct copy_from c = {};
    int64_t x_step[QN_MAX_DIMS], step = 1;
    for (int i = a->y.rank - 1; i >= 0; i--) {
        x_step[i] = step;
        step *= a->x[0].dim[i];
    }
    c.rank = a->y.rank;
    c.size = (int64_t)qn_dtype_size(a->y.dtype);
    for (int i = 0; i < c.rank; i++) {
        c.dim[i] = a->y.dim[i];
        c.step[i] = x_step[attr->perm[i]];
    }
    return qn__cuda_merged(&c);
}

/* Rows are y's last axis, columns the axis that is x's last. */
static struct turn turn_of(const struct copy_from *c)
{
    struct turn t = {};
    int last = c->rank - 1;
    int64_t to = 1;
    t.size = c->size;
    for (int i = last; i >= 0; i--) {
        if (i == last) {
            t.rows = c->dim[i];
            t.from_row = c->step[i];
        } else if (c->step[i] == 1) {
            t.columns = c->dim[i];
            t.to_row = to;
        } else {
            t.outer[t.n_outer] = c->dim[i];
            t.to_step[t.n_outer] = to;
            t.from_step[t.n_outer++] = c->step[i];
        }
        to *= c->dim[i];
    }
    return t;
}

static qn_status pick(const struct qn__args *a, struct qn__choice *choice)
{
    struct copy_from c = copy_of(a);
    choice->variant = COPY;
    if (a->y.count == 0 || c.rank == 0 || c.step[c.rank - 1] == 1) return QN_OK;
    struct turn t = turn_of(&c);
    enum qn__turn_variant how = qn__cuda_turn_variant(&t);
    choice->variant = how == QN_TURN_TILED ? TILED : how == QN_TURN_THIN ? THIN : COPY;
    return QN_OK;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__args *a = &s->args;
    if (a->y.count == 0) return QN_OK;
    struct copy_from c = copy_of(a);
    if (s->choice.variant == COPY) return qn__cuda_copy(s, a->y.data, a->x[0].data, &c, err);
    struct turn t = turn_of(&c);
    return qn__cuda_turn(s, a->y.data, a->x[0].data, &t, err);
}

static const char *const variants[] = { "copy", "tiled", "thin", NULL };
KERNEL(transpose) = { .variants = variants, .pick = pick, .launch = launch };
