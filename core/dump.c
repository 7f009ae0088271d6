/* dump.c - a graph as text, one line a value:
 *
 *   %12 = affine{0.5,0}(%3) F32[32,10] update fc1.affine
 *
 * "update" stands only there, as does the channel block ("/16"); braces hold the attributes worth reading. */
#include "graph_impl.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct text {
    qn_alloc alloc;
    char *s;
    size_t n, cap;
    bool full;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *fmt, ...)
{
    char line[700];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    size_t bytes = (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
    if (t->full || !qn__grow(&t->alloc, &t->s, &t->cap, t->n + bytes + 1, 1)) {
        t->full = true;
        return;
    }
    memcpy(t->s + t->n, line, bytes + 1);
    t->n += bytes;
}

static void put_number(struct text *t, double x)
{
    char s[32];
    put(t, "%s", qn__format_f64(s, x));
}

static bool has_p(enum qn__opcode op)
{
    return op == QN_OP_affine || op == QN_OP_pow || op == QN_OP_clamp || op == QN_OP_leaky_relu || op == QN_OP_elu;
}

static void put_p(struct text *t, enum qn__opcode op, double p, double q)
{
    if (!has_p(op)) return;
    put(t, "{");
    put_number(t, p);
    if (op == QN_OP_affine || op == QN_OP_clamp) {
        put(t, ",");
        put_number(t, q);
    }
    put(t, "}");
}

/* "{mul 0 1; relu 2}": instructions by register */
static void put_program(struct text *t, const struct qn__fused_attr *f)
{
    for (int i = 0; i < f->n; i++) {
        const struct qn__pw_instr *o = &f->instr[i];
        enum qn__opcode op = (enum qn__opcode)o->op;
        int arity = qn__arity_of(op);
        put(t, "%s%s", i ? "; " : "{", qn__op_of(op)->name);
        put_p(t, op, o->p, o->q);
        put(t, " %d", o->a);
        if (arity > 1) put(t, " %d", o->b);
        if (arity > 2) put(t, " %d", o->c);
    }
    put(t, "}");
}

static void put_epilogue(struct text *t, const struct qn__epilogue *e)
{
    if (!e->has_bias && !e->act) return;
    put(t, "{%s%s%s", e->has_bias ? "bias" : "", e->has_bias && e->act ? "," : "",
        e->act ? qn__op_of((enum qn__opcode)e->act)->name : "");
    if (e->act && has_p((enum qn__opcode)e->act)) {
        put(t, " ");
        put_number(t, e->p);
    }
    put(t, "}");
}

static void put_attr(struct text *t, const struct qn__node *y)
{
    const struct qn__pw_attr *pw = y->attr;
    switch ((int)y->op) {
    case QN_OP_full:
        put(t, "{");
        put_number(t, ((const struct qn__full_attr *)y->attr)->value);
        put(t, "}");
        break;
    case QN_OP_fused: put_program(t, y->attr); break;
    case QN_OP_matmul: put_epilogue(t, &((const struct qn__matmul_attr *)y->attr)->epilogue); break;
    case QN_OP_conv2d:
    case QN_OP_conv2d_grad_x: put_epilogue(t, &((const struct qn__conv_attr *)y->attr)->epilogue); break;
    case QN_OP_batch_norm:
        if (((const struct qn__bn_attr *)y->attr)->act) put(t, "{relu}");
        break;
    default:
        if (qn__is_pointwise(y->op)) put_p(t, y->op, pw->p, pw->q);
    }
}

static void put_node(struct text *t, const qn_graph *g, int32_t i)
{
    const struct qn__node *y = &g->node[i];
    put(t, "%%%d = %s", i, qn__op_of(y->op)->name);
    put_attr(t, y);
    put(t, "(");
    for (int k = 0; k < y->n_in; k++) put(t, "%s%%%d", k ? ", " : "", y->in[k]);
    put(t, ") %s%s", qn_dtype_name(y->dtype), qn__dims_show(y->rank, y->dim).s);
    if (y->block != QN_PLAIN) put(t, "/%d", y->block);
    put(t, "%s %s\n", y->phase == QN_UPDATE ? " update" : "", y->name);
}

char *qn__graph_dump(const qn_graph *g, size_t *bytes)
{
    struct text t = { .alloc = g->alloc };
    put(&t, "%s", "");
    for (int32_t i = 1; i < g->n; i++) put_node(&t, g, i);
    if (t.full) {
        qn__free(&t.alloc, t.s, t.cap);
        t.s = NULL;
        t.cap = 0;
    }
    *bytes = t.cap;
    return t.s;
}
