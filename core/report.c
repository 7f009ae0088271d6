/* report.c - what a program will take and do, before it does it. */
#include "program.h"
#include <string.h>

qn_bytes qn_program_bytes(const qn_program *p)
{
    qn_bytes b = { .io = p->io, .work = p->work, .workspace = p->workspace, .naive = p->naive };
    size_t *by_kind[QN_KIND_COUNT] = { &b.params, &b.buffers, &b.state, &b.grads };
    for (int32_t i = 1; i < p->g->n; i++) {
        const struct qn__node *y = &p->g->node[i];
        size_t bytes;
        if (y->op != QN_OP_store) continue;
        const struct qn__store_attr *attr = y->attr;
        if (qn__slot_bytes(&bytes, (size_t)y->count * qn_dtype_size(y->dtype))) *by_kind[attr->kind] += bytes;
    }
    if (!p->gpu && !p->described) return b;
    b.io = qn__gpu_io_bytes(p);
    b.host = qn__gpu_host_bytes(p, b.params + b.buffers + b.state + b.grads);
    return b;
}

/* The highest end of any value or workspace that a step is bound to. It comes from the slots that the plan filled, so
 * it shows a sum that does not match its parts, not an allocation that does not match the plan. */
static size_t span_end(const struct qn__slot *s, enum qn__place place, size_t end)
{
    return s->place == place && s->offset + s->bytes > end ? s->offset + s->bytes : end;
}

size_t qn_program_used_bytes(const qn_program *p)
{
    size_t work = 0, io = 0;
    if (!p->raw) return 0;
    for (int32_t i = 1; i < p->g->n + p->n_order; i++) {
        const struct qn__slot *s = &p->slot[i];
        if (s->root != i) continue;
        work = span_end(s, QN_PLACE_WORK, work);
        io = span_end(s, QN_PLACE_IO, io);
    }
    return p->gpu ? p->device_bytes + (p->store ? work : 0) : work + io;
}

int qn_program_steps(const qn_program *p)
{
    int n = 0;
    for (int32_t k = 0; k < p->n_order; k++) n += p->step[k].kernel != NULL;
    return n;
}

/* Compulsory traffic of an operator that does not say otherwise: read every operand once, write the result. */
static struct qn__cost cost_of(const qn_program *p, const struct qn__node *y)
{
    const struct qn__node *x[QN_MAX_IN] = { NULL };
    for (int i = 0; i < y->n_in; i++) x[i] = &p->g->node[y->in[i]];
    if (qn__op_of(y->op)->cost) return qn__op_of(y->op)->cost(x, y);
    struct qn__cost c = { (double)y->count, (double)y->count * (double)qn_dtype_size(y->dtype) };
    for (int i = 0; i < y->n_in; i++) c.bytes += (double)x[i]->count * (double)qn_dtype_size(x[i]->dtype);
    return c;
}

qn_step_info qn_program_step(const qn_program *p, int i)
{
    qn_step_info info = { .op = "", .name = "", .variant = "" };
    for (int32_t k = 0, seen = 0; k < p->n_order; k++) {
        const struct qn__step *s = &p->step[k];
        if (!s->kernel || seen++ != i) continue;
        const struct qn__node *y = qn__program_node(p, k);
        struct qn__cost c = cost_of(p, y);
        info = (qn_step_info){ .op = qn__op_of(y->op)->name,
                               .name = y->name,
                               .phase = y->phase,
                               .flops = c.flops,
                               .bytes = c.bytes,
                               .result_bytes = (size_t)y->count * qn_dtype_size(y->dtype) };
        info.variant = s->kernel->variants ? s->kernel->variants[s->choice.variant] : info.op;
        break;
    }
    return info;
}

qn_step_timing qn_program_timing(const qn_program *p, int i)
{
    for (int32_t k = 0, seen = 0; k < p->n_order && p->timing; k++)
        if (p->step[k].kernel && seen++ == i) return p->timing[k];
    return (qn_step_timing){ 0 };
}
