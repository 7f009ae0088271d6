/* pass_epilogue.c - bias and activation go into the matrix product or convolution that they follow, relu into batch
 * normalisation: one pass over the result less for each. Only where nobody else reads the value in between. The
 * merged node stands where the last of the chain stood. */
#include "pass.h"
#include <string.h>

struct chain {
    int32_t product; /* matmul or convolution */
    int32_t bias;    /* value added, 0 if none; added by node `add` */
    int32_t add;
    int32_t act; /* activation node, 0 if none */
};

struct epilogue {
    const qn_graph *in;
    qn_graph *out;
    int32_t *map, *readers, *reader; /* reader: the one reader of a value that has just one */
    struct qn__writes writes;
};

static bool is_convolution(enum qn__opcode op) { return op == QN_OP_conv2d || op == QN_OP_conv2d_grad_x; }

static bool is_activation(enum qn__opcode op)
{
    return op == QN_OP_relu || op == QN_OP_leaky_relu || op == QN_OP_elu || op == QN_OP_gelu_tanh ||
           op == QN_OP_gelu_erf || op == QN_OP_sigmoid || op == QN_OP_tanh || op == QN_OP_silu;
}

static struct qn__epilogue *epilogue_of(const struct qn__node *y, void *attr)
{
    return y->op == QN_OP_matmul ? &((struct qn__matmul_attr *)attr)->epilogue
                                 : &((struct qn__conv_attr *)attr)->epilogue;
}

/* The only reader of value i, if it is of i's phase, dims and dtype; else 0. */
static int32_t follower(const struct epilogue *e, int32_t i)
{
    const struct qn__node *x = &e->in->node[i];
    if (e->readers[i] != 1 || !e->reader[i]) return 0;
    const struct qn__node *y = &e->in->node[e->reader[i]];
    return y->phase == x->phase && y->dtype == x->dtype && qn__same_dims(x, y) ? e->reader[i] : 0;
}

/* One number a column of the product, or a channel of the convolution, and 1 along every other axis. */
static bool is_bias(const struct qn__node *product, const struct qn__node *b)
{
    int from_right = is_convolution(product->op) ? 3 : 1;
    int64_t n = product->dim[product->rank - from_right];
    if (b->count != n || (n > 1 && b->rank < from_right)) return false;
    return n == 1 || b->dim[b->rank - from_right] == n;
}

static void find_bias(const struct epilogue *e, struct chain *c)
{
    const struct qn__node *m = &e->in->node[c->product];
    int32_t j = follower(e, c->product);
    const struct qn__node *y = &e->in->node[j];
    if (!j || y->op != QN_OP_add || m->n_in >= QN_MAX_IN) return;
    int32_t b = y->in[0] == c->product ? y->in[1] : y->in[0];
    if (b == c->product || !is_bias(m, &e->in->node[b])) return;
    c->bias = b;
    c->add = j;
}

static bool reads_may_move(const struct epilogue *e, const struct chain *c, int32_t to)
{
    const struct qn__node *m = &e->in->node[c->product];
    for (int k = 0; k < m->n_in; k++)
        if (qn__written_between(&e->writes, m->in[k], c->product, to)) return false;
    return !c->bias || !qn__written_between(&e->writes, c->bias, c->add, to);
}

/* The chain that starts at node i; false if nothing follows that could go in. */
static bool find_chain(const struct epilogue *e, int32_t i, struct chain *c)
{
    const struct qn__node *m = &e->in->node[i];
    *c = (struct chain){ .product = i };
    if (m->op != QN_OP_matmul && !is_convolution(m->op)) return false;
    const struct qn__epilogue *have = epilogue_of(m, m->attr);
    if (have->has_bias || have->act || m->rank < 1) return false;
    find_bias(e, c);
    if (c->add && !reads_may_move(e, c, c->add)) c->add = c->bias = 0;
    int32_t end = c->add ? c->add : i;
    c->act = follower(e, end);
    if (c->act && (!is_activation(e->in->node[c->act].op) || !reads_may_move(e, c, c->act))) c->act = 0;
    return c->add || c->act;
}

/* The bias as a vector: what it was reshaped from if that is one, else reshaped. */
static int32_t bias_vector(const struct epilogue *e, int32_t b, const struct qn__node *place)
{
    const struct qn__node *x = &e->in->node[b];
    if (x->op == QN_OP_reshape && e->in->node[x->in[0]].rank == 1) return e->map[x->in[0]];
    if (x->rank == 1) return e->map[b];
    struct qn__node like = {
        .dtype = x->dtype, .rank = 1, .dim = { x->count }, .phase = place->phase, .name = place->name
    };
    return qn__pass_node(e->out, &like, QN_OP_reshape, &e->map[b], 1, NULL);
}

static int32_t emit_product(const struct epilogue *e, const struct chain *c, int32_t last)
{
    const struct qn__node *m = &e->in->node[c->product];
    struct qn__node like = *m;
    union {
        struct qn__matmul_attr matmul;
        struct qn__conv_attr conv;
    } attr;
    memset(&attr, 0, sizeof attr);
    memcpy(&attr, m->attr, qn__op_of(m->op)->attr_size);
    struct qn__epilogue *epilogue = epilogue_of(m, &attr);
    int32_t in[QN_MAX_IN];
    int n_in = m->n_in;
    for (int k = 0; k < n_in; k++) in[k] = e->map[m->in[k]];
    like.name = e->in->node[last].name;
    if (c->add) {
        epilogue->has_bias = 1;
        in[n_in++] = bias_vector(e, c->bias, &like);
    }
    if (c->act) {
        epilogue->act = (int32_t)e->in->node[c->act].op;
        epilogue->p = ((const struct qn__pw_attr *)e->in->node[c->act].attr)->p;
    }
    return qn__pass_node(e->out, &like, m->op, in, n_in, &attr);
}

static int32_t emit_norm(const struct epilogue *e, int32_t i, int32_t last)
{
    struct qn__node like = e->in->node[i];
    struct qn__bn_attr attr = *(const struct qn__bn_attr *)like.attr;
    int32_t in[QN_MAX_IN];
    attr.act = QN_OP_relu;
    for (int k = 0; k < like.n_in; k++) in[k] = e->map[like.in[k]];
    like.name = e->in->node[last].name;
    return qn__pass_node(e->out, &like, QN_OP_batch_norm, in, like.n_in, &attr);
}

static bool is_norm_with_relu(const struct epilogue *e, int32_t i, int32_t last)
{
    const struct qn__node *y = &e->in->node[i];
    if (y->op != QN_OP_batch_norm || !last || e->in->node[last].op != QN_OP_relu) return false;
    return !((const struct qn__bn_attr *)y->attr)->act && reads_may_move(e, &(struct chain){ .product = i }, last);
}

/* start[k]: the node whose chain ends in k (0: none); inside[k]: k is a link before the end. */
static void find_chains(const struct epilogue *e, int32_t *start, bool *inside)
{
    for (int32_t i = 1; i < e->in->n; i++) {
        struct chain c;
        int32_t last = follower(e, i);
        if (find_chain(e, i, &c)) {
            last = c.act ? c.act : c.add;
            if (start[last]) continue; /* the sum of two products: the first has it */
            inside[i] = true;
            if (c.act && c.add) inside[c.add] = true;
            start[last] = i;
        } else if (is_norm_with_relu(e, i, last)) {
            inside[i] = true;
            start[last] = i;
        }
    }
}

static void rewrite(const struct epilogue *e, const int32_t *start, const bool *inside)
{
    for (int32_t i = 1; i < e->in->n; i++) {
        struct chain c;
        if (inside[i]) continue;
        if (!start[i])
            e->map[i] = qn__graph_carry(e->out, e->in, i, e->map);
        else if (find_chain(e, start[i], &c))
            e->map[i] = emit_product(e, &c, i);
        else
            e->map[i] = emit_norm(e, start[i], i);
    }
}

qn_status qn__pass_epilogue(const qn_graph *in, qn_graph *out, int32_t *map, const struct qn__pass_env *env,
                            qn_error *err)
{
    size_t n = (size_t)in->n;
    struct epilogue e = { .in = in, .out = out, .map = map };
    e.readers = qn__calloc(&in->alloc, n, sizeof *e.readers);
    e.reader = qn__calloc(&in->alloc, n, sizeof *e.reader);
    int32_t *start = qn__calloc(&in->alloc, n, sizeof *start);
    bool *inside = qn__calloc(&in->alloc, n, sizeof *inside);
    bool have = e.readers && e.reader && start && inside;
    qn_status status = have ? qn__writes_find(&e.writes, in, err) : qn__nomem(err, "epilogue", n * sizeof *start);
    if (!status) {
        qn__count_readers(in, env, e.readers);
        for (int32_t i = 1; i < in->n; i++)
            for (int k = 0; k < in->node[i].n_in; k++) e.reader[in->node[i].in[k]] = i;
        find_chains(&e, start, inside);
        rewrite(&e, start, inside);
    }
    qn__writes_free(&e.writes);
    qn__free(&in->alloc, e.readers, n * sizeof *e.readers);
    qn__free(&in->alloc, e.reader, n * sizeof *e.reader);
    qn__free(&in->alloc, start, n * sizeof *start);
    qn__free(&in->alloc, inside, n * sizeof *inside);
    return status;
}
