/* recurrent.c - one time step of an LSTM (Hochreiter, Schmidhuber 1997; Gers et al. 2000) and of a GRU (Cho et al.
 * 2014, in the form with the reset gate behind the product), pointwise from the pre-activations, in PyTorch's order of
 * gates. s is the logistic function.
 *
 *   lstm_cell   gates [B,4H] i, f, g, o; c [B,H]; and possibly a second [B,4H], added to the gates
 *               c' = s(f) c + s(i) tanh g      h' = s(o) tanh c'; y is h', the further result c'
 *   gru_cell    p = W x + b, q = U h + d, both [B,3H] r, z, n; h [B,H]
 *               r = s(p_r + q_r)   z = s(p_z + q_z)   n = tanh(p_n + r q_n)   h' = (1 - z) n + z h
 *
 * The gradients compute the activations again: less is kept, and the pre-activations are read anyway. */
#include "../op.h"
#include <string.h>

/* [B, n H] of x's dtype where x is [B, H] */
static qn_status check(const struct qn__node *v, const struct qn__node *state, int64_t n, const char *name,
                       qn_error *err)
{
    if (v->rank == 2 && state->rank == 2 && v->dim[0] == state->dim[0] && v->dim[1] == n * state->dim[1] &&
        v->dtype == state->dtype)
        return QN_OK;
    return qn__fail(err, 2201, NULL, "%s is %s; expected %s [%lld,%lld]", name, qn__dims_show(v->rank, v->dim).s,
                    qn_dtype_name(state->dtype), (long long)state->dim[0], (long long)(n * state->dim[1]));
}

static qn_status check_state(const struct qn__node *state, qn_error *err)
{
    if (!qn_dtype_is_float(state->dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(state->dtype));
    if (state->rank != 2) return qn__fail(err, 2203, NULL, "state of rank %d; expected [batch,size]", state->rank);
    return QN_OK;
}

static void set_dims(struct qn__node *y, const struct qn__node *like)
{
    y->dtype = like->dtype;
    y->rank = 2;
    memcpy(y->dim, like->dim, sizeof y->dim);
}

/* ---- LSTM ------------------------------------------------------------------------------------------------ */

/* gates, c, and the second gates if attr says so */
static qn_status check_lstm(const struct qn__node *const *x, const struct qn__node *y, int more, qn_error *err)
{
    const struct qn__lstm_attr *attr = y->attr;
    int n = 2 + (attr->two_gates != 0);
    if (y->n_in != n + more) return qn__fail(err, 2204, NULL, "%d operands; expected %d", y->n_in, n + more);
    QN_TRY(check_state(x[1], err));
    QN_TRY(check(x[0], x[1], 4, "gates", err));
    return n == 3 ? check(x[2], x[1], 4, "second gates", err) : QN_OK;
}

static qn_status infer_lstm(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_lstm(x, y, 0, err));
    set_dims(y, x[1]);
    return QN_OK;
}

/* then dh and dc', those that there are */
static qn_status infer_lstm_grad(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__lstm_attr *attr = y->attr;
    int n = 2 + (attr->two_gates != 0);
    QN_TRY(check_lstm(x, y, (attr->has_dh != 0) + (attr->has_dc != 0), err));
    for (int i = n; i < y->n_in; i++) QN_TRY(check(x[i], x[1], 1, "gradient of a state", err));
    set_dims(y, x[0]);
    return QN_OK;
}

static void vjp_lstm(qn_graph *g, const struct qn__node *y, qn_t self, const qn_t *dy, qn_t *dx)
{
    (void)self;
    struct qn__lstm_attr attr = *(const struct qn__lstm_attr *)y->attr;
    struct qn__node c = *qn__at(g, qn__in(y, 1));
    qn_t x[QN_MAX_IN];
    int n = y->n_in;
    for (int i = 0; i < n; i++) x[i] = qn__in(y, i);
    attr.has_dh = dy[0].id != 0;
    attr.has_dc = dy[1].id != 0;
    if (attr.has_dh) x[n++] = dy[0];
    if (attr.has_dc) x[n++] = dy[1];
    dx[0] = qn__node(g, QN_OP_lstm_cell_grad, x, n, &attr);
    dx[1] = qn__output(g, dx[0], 0, c.dtype, 2, c.dim);
    if (attr.two_gates) dx[2] = dx[0];
}

/* ---- GRU ------------------------------------------------------------------------------------------------- */

static qn_status check_gru(const struct qn__node *const *x, qn_error *err)
{
    QN_TRY(check_state(x[2], err));
    QN_TRY(check(x[0], x[2], 3, "gates of the input", err));
    return check(x[1], x[2], 3, "gates of the state", err);
}

static qn_status infer_gru(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_gru(x, err));
    set_dims(y, x[2]);
    return QN_OK;
}

static qn_status infer_gru_grad(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_gru(x, err));
    QN_TRY(check(x[3], x[2], 1, "gradient of the state", err));
    set_dims(y, x[0]);
    return QN_OK;
}

static void vjp_gru(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    qn_t p = qn__in(y, 0), q = qn__in(y, 1), h = qn__in(y, 2);
    struct qn__node gates = *qn__at(g, q), state = *qn__at(g, h);
    dx[0] = qn__node(g, QN_OP_gru_cell_grad, (qn_t[]){ p, q, h, dy }, 4, NULL);
    dx[1] = qn__output(g, dx[0], 0, gates.dtype, 2, gates.dim);
    dx[2] = qn__output(g, dx[0], 1, state.dtype, 2, state.dim);
}

/* ---- costs: operands and results once --------------------------------------------------------------------- */

/* `states` states beside y are written, and `flops` done for each of their elements. */
static struct qn__cost cost_of(const struct qn__node *const *x, const struct qn__node *y, const struct qn__node *state,
                               double states, double flops)
{
    struct qn__cost c = qn__cost_move(x, y);
    c.bytes += states * (double)state->count * (double)qn_dtype_size(y->dtype);
    c.flops = flops * (double)state->count;
    return c;
}
static struct qn__cost cost_lstm(const struct qn__node *const *x, const struct qn__node *y)
{
    return cost_of(x, y, x[1], 1, 15);
}
static struct qn__cost cost_lstm_grad(const struct qn__node *const *x, const struct qn__node *y)
{
    return cost_of(x, y, x[1], 1, 34);
}
static struct qn__cost cost_gru(const struct qn__node *const *x, const struct qn__node *y)
{
    return cost_of(x, y, x[2], 0, 16);
}
static struct qn__cost cost_gru_grad(const struct qn__node *const *x, const struct qn__node *y)
{
    return cost_of(x, y, x[2], 4, 30);
}

const struct qn__op qn__op_lstm_cell = {
    .name = "lstm_cell",
    .infer = infer_lstm,
    .vjp_all = vjp_lstm,
    .cost = cost_lstm,
    .attr_size = sizeof(struct qn__lstm_attr),
    .more = 1,
};
const struct qn__op qn__op_lstm_cell_grad = {
    .name = "lstm_cell_grad",
    .infer = infer_lstm_grad,
    .cost = cost_lstm_grad,
    .attr_size = sizeof(struct qn__lstm_attr),
    .more = 1,
    .no_gradient = "first derivative only: lstm_cell's gradient",
};
const struct qn__op qn__op_gru_cell = { .name = "gru_cell", .infer = infer_gru, .vjp = vjp_gru, .cost = cost_gru };
const struct qn__op qn__op_gru_cell_grad = {
    .name = "gru_cell_grad",
    .infer = infer_gru_grad,
    .cost = cost_gru_grad,
    .more = 2,
    .no_gradient = "first derivative only: gru_cell's gradient",
};

qn_t qn_lstm_cell(qn_graph *g, qn_t gates, qn_t more_gates, qn_t c, qn_t *c_out)
{
    struct qn__lstm_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.two_gates = more_gates.id != 0;
    qn_t h = qn__node(g, QN_OP_lstm_cell, (qn_t[]){ gates, c, more_gates }, attr.two_gates ? 3 : 2, &attr);
    if (!c_out) return h;
    struct qn__node state = *qn__at(g, h);
    *c_out = qn__output(g, h, 0, state.dtype, 2, state.dim);
    return h;
}

qn_t qn_gru_cell(qn_graph *g, qn_t gates_x, qn_t gates_h, qn_t h)
{
    return qn__node(g, QN_OP_gru_cell, (qn_t[]){ gates_x, gates_h, h }, 3, NULL);
}
