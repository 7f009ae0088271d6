/* plan.c - lifetimes, sharing and offsets: see plan.h.
 *
 * Placement is greedy: largest first, each at the lowest offset that overlaps nobody alive at the same time. The
 * schedule is one line, so "alive at the same time" is overlap of intervals of positions: of the compute stream. What
 * steps of other streams touch is alive all the time, and steps of a group are alive as long as the group. */
#include "plan.h"
#include <stdlib.h>
#include <string.h>

static int32_t root_of(struct qn__slot *slot, int32_t i)
{
    while (slot[i].root != i) i = slot[i].root = slot[slot[i].root].root;
    return i;
}

static void extend(struct qn__slot *s, int32_t position)
{
    if (s->first > position) s->first = position;
    if (s->last < position) s->last = position;
}

/* i takes the bytes of root r. */
static void join(struct qn__slot *slot, int32_t i, int32_t r)
{
    slot[i].root = r;
    extend(&slot[r], slot[i].first);
    extend(&slot[r], slot[i].last);
    if (slot[i].place == QN_PLACE_IO && slot[r].place == QN_PLACE_WORK) slot[r].place = QN_PLACE_IO;
}

/* i is alive through the group of the step at `position`, whoever of it works on i; all the time if that is a step of
 * another stream. */
static void reach(struct qn__plan *p, int32_t i, int32_t position)
{
    struct qn__slot *s = &p->slot[root_of(p->slot, i)];
    int32_t first = position;
    if (p->stream && p->stream[position] != QN_STREAM_COMPUTE) {
        s->alone = true;
        extend(s, 0);
        extend(s, p->n_steps - 1);
    }
    if (!p->group) return;
    while (p->group[first] == 0) first--;
    extend(s, first);
    extend(s, first + p->group[first] - 1);
}

static bool has_own_bytes(enum qn__opcode op) { return op == QN_OP_input || op == QN_OP_full || op == QN_OP_constant; }

static qn_status first_slots(struct qn__plan *p, qn_error *err)
{
    const qn_graph *g = p->g;
    for (int32_t i = 0; i < g->n + p->n_steps; i++) p->slot[i] = (struct qn__slot){ .root = i };
    for (int32_t i = 1; i < g->n; i++) {
        const struct qn__node *y = &g->node[i];
        struct qn__slot *s = &p->slot[i];
        size_t bytes;
        if (!qn__mul(&bytes, (size_t)y->count, qn_dtype_size(y->dtype)) || !qn__slot_bytes(&s->bytes, bytes))
            return qn__fail(err, 2203, QN_AT_FIELD(y->name), "%s; expected a size that fits memory",
                            qn__dims_show(y->rank, y->dim).s);
        s->place = y->op == QN_OP_store                 ? QN_PLACE_STORE
                   : has_own_bytes(y->op) || p->kept[i] ? QN_PLACE_IO
                                                        : QN_PLACE_WORK;
        s->first = s->last = p->position[i];
    }
    for (int32_t k = 0; k < p->n_steps; k++) {
        struct qn__slot *s = &p->slot[g->n + k];
        s->first = s->last = k;
        if (p->workspace[k] == 0) continue;
        if (!qn__slot_bytes(&s->bytes, p->workspace[k])) return qn__nomem(err, "workspace", p->workspace[k]);
        s->place = QN_PLACE_WORK;
    }
    return QN_OK;
}

/* Last access of each value, and the aliases that the operators demand. */
static void lifetimes(struct qn__plan *p)
{
    const qn_graph *g = p->g;
    for (int32_t i = 1; i < g->n; i++) {
        const struct qn__node *y = &g->node[i];
        const struct qn__op *op = qn__op_of(y->op);
        if (y->op == QN_OP_output) { /* written by its operand's step, and does not read it */
            extend(&p->slot[i], p->position[y->in[0]]);
            continue;
        }
        for (int k = 0; k < y->n_in; k++) extend(&p->slot[root_of(p->slot, y->in[k])], p->position[i]);
        if (y->n_in && (op->alias || op->writes)) join(p->slot, i, root_of(p->slot, y->in[0]));
    }
}

/* Groups of steps, and other streams: everything that a step touches. */
static void reaches(struct qn__plan *p)
{
    const qn_graph *g = p->g;
    for (int32_t i = 1; i < g->n; i++) {
        const struct qn__node *y = &g->node[i];
        int32_t k = p->position[y->op == QN_OP_output ? y->in[0] : i];
        reach(p, i, k);
        for (int q = 0; q < y->n_in && y->op != QN_OP_output; q++) reach(p, y->in[q], k);
    }
    for (int32_t k = 0; k < p->n_steps; k++) reach(p, g->n + k, k);
}

/* A pointwise result may take the bytes of an operand of the same size whose last reader it is. */
static void share_in_place(struct qn__plan *p)
{
    const qn_graph *g = p->g;
    for (int32_t i = 1; i < g->n; i++) {
        const struct qn__node *y = &g->node[i];
        if (!qn__op_of(y->op)->in_place || p->slot[i].root != i || p->slot[i].place != QN_PLACE_WORK) continue;
        bool grouped = p->group && p->group[p->position[i]] != 1; /* then others may still read the operand */
        if (grouped || p->slot[i].alone) continue;
        for (int k = 0; k < y->n_in; k++) {
            const struct qn__node *x = &g->node[y->in[k]];
            int32_t r = root_of(p->slot, y->in[k]);
            const struct qn__slot *s = &p->slot[r];
            bool dies_here = s->place == QN_PLACE_WORK && s->last == p->position[i] && !s->alone;
            if (!dies_here || x->count != y->count || s->bytes != p->slot[i].bytes ||
                qn_dtype_size(x->dtype) != qn_dtype_size(y->dtype) || x->block != y->block)
                continue;
            join(p->slot, i, r);
            break;
        }
    }
}

/* ---- offsets ----------------------------------------------------------------------------------- */

struct placed {
    size_t bytes, offset;
    int32_t first, last, slot;
};

static int larger_first(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->slot < y->slot ? -1 : 1; /* a total order: plans repeat */
}
static int by_offset(const void *a, const void *b)
{
    const struct placed *x = *(const struct placed *const *)a, *y = *(const struct placed *const *)b;
    return x->offset != y->offset ? (x->offset < y->offset ? -1 : 1) : (x->slot < y->slot ? -1 : 1);
}

/* Lowest gap among the already placed that live at the same time. `near` is scratch for those. */
static size_t lowest_gap(const struct placed *item, const struct placed *done, size_t n, const struct placed **near)
{
    size_t m = 0, offset = 0;
    for (size_t i = 0; i < n; i++)
        if (done[i].first <= item->last && item->first <= done[i].last) near[m++] = &done[i];
    qsort(near, m, sizeof *near, by_offset);
    for (size_t i = 0; i < m; i++) {
        if (offset + item->bytes <= near[i]->offset) break;
        size_t end = near[i]->offset + near[i]->bytes;
        if (end > offset) offset = end;
    }
    return offset;
}

static size_t collect(struct qn__plan *p, struct placed *list)
{
    size_t n = 0;
    for (int32_t i = 1; i < p->g->n + p->n_steps; i++) {
        const struct qn__slot *s = &p->slot[i];
        if (s->root == i && s->place == QN_PLACE_WORK) list[n++] = (struct placed){ s->bytes, 0, s->first, s->last, i };
    }
    return n;
}

static qn_status place_work(struct qn__plan *p, const qn_alloc *alloc, qn_error *err)
{
    size_t room = (size_t)p->g->n + (size_t)p->n_steps;
    struct placed *list = qn__calloc(alloc, room, sizeof *list);
    const struct placed **near = qn__calloc(alloc, room, sizeof *near);
    qn_status status = list && near ? QN_OK : qn__nomem(err, "plan", room * sizeof *list);
    size_t n = status ? 0 : collect(p, list), end = 0;
    if (p->reuse && n) qsort(list, n, sizeof *list, larger_first);
    for (size_t i = 0; i < n && !status; i++) {
        list[i].offset = p->reuse ? lowest_gap(&list[i], list, i, near) : end;
        p->slot[list[i].slot].offset = list[i].offset;
        if (!qn__add(&end, list[i].offset, list[i].bytes)) status = qn__nomem(err, "plan", SIZE_MAX);
        if (end > p->work) p->work = end;
    }
    qn__free(alloc, list, room * sizeof *list);
    qn__free(alloc, near, room * sizeof *near);
    return status;
}

/* Which part of io a root belongs to, in the order of struct qn__io. */
static int io_part(const struct qn__node *y)
{
    if (y->op == QN_OP_full || y->op == QN_OP_constant) return 0;
    return y->op == QN_OP_input ? 1 : 2 + (y->phase == QN_UPDATE);
}

static qn_status place_io(struct qn__plan *p, qn_error *err)
{
    size_t *const end[] = { &p->io_end.constants, &p->io_end.inputs, &p->io_end.kept_micro, &p->io };
    for (int part = 0; part < 4; part++) {
        for (int32_t i = 1; i < p->g->n; i++) {
            struct qn__slot *s = &p->slot[i];
            if (s->root != i || s->place != QN_PLACE_IO || io_part(&p->g->node[i]) != part) continue;
            s->offset = p->io;
            if (!qn__add(&p->io, p->io, s->bytes)) return qn__nomem(err, "plan", SIZE_MAX);
        }
        *end[part] = p->io;
    }
    return QN_OK;
}

/* What the work arena would be if every value, even one computed in place, had its own bytes. */
static qn_status count_naive(struct qn__plan *p, qn_error *err)
{
    for (int32_t i = 1; i < p->g->n + p->n_steps; i++) {
        bool value = i < p->g->n;
        const struct qn__slot *s = &p->slot[i];
        if (s->place != QN_PLACE_WORK || (value && s->root != i && qn__op_of(p->g->node[i].op)->alias)) continue;
        if (value && qn__op_of(p->g->node[i].op)->writes) continue;
        if (!qn__add(&p->naive, p->naive, s->bytes)) return qn__nomem(err, "plan", SIZE_MAX);
    }
    return QN_OK;
}

/* What workspaces take at one time, at most. That is so at the first position of one of them. */
static size_t most_workspace(const struct qn__plan *p)
{
    const struct qn__slot *s = p->slot + p->g->n;
    size_t most = 0;
    for (int32_t k = 0; k < p->n_steps; k++) {
        size_t bytes = 0;
        for (int32_t i = 0; i < p->n_steps && s[k].bytes > 0; i++)
            if (s[i].alone || (s[i].first <= s[k].first && s[k].first <= s[i].last)) bytes += s[i].bytes;
        if (bytes > most) most = bytes;
    }
    return most;
}

qn_status qn__plan_make(struct qn__plan *p, const qn_alloc *alloc, qn_error *err)
{
    QN_TRY(first_slots(p, err));
    lifetimes(p);
    reaches(p);
    if (p->reuse) share_in_place(p);
    p->work = p->io = p->naive = 0;
    p->workspace_most = most_workspace(p);
    QN_TRY(count_naive(p, err));
    QN_TRY(place_io(p, err));
    QN_TRY(place_work(p, alloc, err));
    for (int32_t i = 1; i < p->g->n; i++) { /* members know their root's place */
        const struct qn__slot *r = &p->slot[root_of(p->slot, i)];
        p->slot[i].place = r->place;
        p->slot[i].offset = r->offset;
    }
    return QN_OK;
}

/* ---- proof --------------------------------------------------------------------------------------- */

/* Who wrote a range last. Ranges of values written earlier and overlapped since are gone. */
struct owner {
    size_t begin, end;
    int32_t value;
};
struct owners {
    struct owner *at;
    size_t n;
};

static void overwrite(struct owners *o, size_t begin, size_t end, int32_t value)
{
    size_t kept = 0;
    for (size_t i = 0; i < o->n; i++)
        if (o->at[i].end <= begin || end <= o->at[i].begin) o->at[kept++] = o->at[i];
    o->at[kept] = (struct owner){ begin, end, value };
    o->n = kept + 1;
}

static bool holds(const struct owners *o, size_t begin, size_t end, int32_t value)
{
    for (size_t i = 0; i < o->n; i++)
        if (o->at[i].value == value) return o->at[i].begin == begin && o->at[i].end == end;
    return false;
}

static bool overlap(const struct qn__slot *a, const struct qn__slot *b)
{
    return a->place == QN_PLACE_WORK && b->place == QN_PLACE_WORK && a->offset < b->offset + b->bytes &&
           b->offset < a->offset + a->bytes;
}

/* A further result j of node i lies apart from everything else that the step touches. */
static qn_status check_further(const struct qn__plan *p, struct owners *o, int32_t k, int32_t i, int32_t j,
                               qn_error *err)
{
    const struct qn__node *y = &p->g->node[i];
    const struct qn__slot *s = &p->slot[j];
    if (s->place != QN_PLACE_WORK) return QN_OK;
    bool apart = s->offset + s->bytes <= p->work && s->offset % QN_ALIGN == 0 && !overlap(s, &p->slot[i]) &&
                 !overlap(s, &p->slot[p->g->n + k]);
    for (int q = 0; q < y->n_in; q++) apart = apart && !overlap(s, &p->slot[y->in[q]]);
    for (int32_t other = i + 1; other < j; other++)
        if (p->g->node[other].op == QN_OP_output && p->g->node[other].in[0] == i)
            apart = apart && !overlap(s, &p->slot[other]);
    if (!apart)
        return qn__fail(err, 7070, QN_AT_FIELD(y->name),
                        "plan: a further result of step %d lies on another value; "
                        "expected bytes of its own in the arena",
                        k);
    overwrite(o, s->offset, s->offset + s->bytes, j);
    return QN_OK;
}

static qn_status check_step(const struct qn__plan *p, struct owners *o, int32_t k, int32_t i, qn_error *err)
{
    const struct qn__node *y = &p->g->node[i];
    const struct qn__slot *w = &p->slot[p->g->n + k], *s = &p->slot[i];
    if (y->op == QN_OP_output) return QN_OK; /* its operand's step has written it */
    if (w->place == QN_PLACE_WORK) {
        if (w->offset + w->bytes > p->work || w->offset % QN_ALIGN)
            return qn__fail(err, 7070, QN_AT_FIELD(y->name), "plan: workspace leaves the arena; expected inside it");
        overwrite(o, w->offset, w->offset + w->bytes, -1 - k);
    }
    for (int q = 0; q < y->n_in; q++) {
        const struct qn__slot *x = &p->slot[y->in[q]];
        if (x->place == QN_PLACE_WORK && !holds(o, x->offset, x->offset + x->bytes, qn__plan_identity(p->g, y->in[q])))
            return qn__fail(err, 7070, QN_AT_FIELD(y->name),
                            "plan: operand %d is overwritten before step %d; expected its bytes intact", q, k);
    }
    for (int32_t j = i + 1; qn__op_of(y->op)->more && j < p->g->n; j++)
        if (p->g->node[j].op == QN_OP_output && p->g->node[j].in[0] == i) QN_TRY(check_further(p, o, k, i, j, err));
    if (s->place != QN_PLACE_WORK || qn__plan_identity(p->g, i) != i) return QN_OK;
    if (s->offset + s->bytes > p->work || s->offset % QN_ALIGN)
        return qn__fail(err, 7070, QN_AT_FIELD(y->name), "plan: result leaves the arena; expected inside it");
    if (overlap(s, w))
        return qn__fail(err, 7070, QN_AT_FIELD(y->name), "plan: result overlaps the workspace; expected disjoint");
    for (int q = 0; q < y->n_in; q++) { /* overlap with an operand: only exact, only where the kernel allows it */
        const struct qn__slot *x = &p->slot[y->in[q]];
        if (overlap(s, x) && !(qn__op_of(y->op)->in_place && s->offset == x->offset && s->bytes == x->bytes))
            return qn__fail(err, 7070, QN_AT_FIELD(y->name), "plan: result overlaps operand %d; expected disjoint", q);
    }
    overwrite(o, s->offset, s->offset + s->bytes, i);
    return QN_OK;
}

/* ---- proof: groups and streams ----- */

/* Every slot that step k touches, those that it writes first; returns how many, *written of them. */
enum { TOUCHED = QN_MAX_IN + QN_MAX_MORE + 2 };
static int touched(const struct qn__plan *p, int32_t k, int32_t i, const struct qn__slot *out[TOUCHED], int *written)
{
    const struct qn__node *y = &p->g->node[i];
    int n = 0;
    out[n++] = &p->slot[i];
    out[n++] = &p->slot[p->g->n + k];
    for (int32_t j = i + 1; qn__op_of(y->op)->more && j < p->g->n && n < 2 + QN_MAX_MORE; j++)
        if (p->g->node[j].op == QN_OP_output && p->g->node[j].in[0] == i) out[n++] = &p->slot[j];
    *written = n;
    for (int q = 0; q < y->n_in; q++) out[n++] = &p->slot[y->in[q]];
    return n;
}

static qn_status check_pair(const struct qn__plan *p, const int32_t *order, int32_t a, int32_t b, qn_error *err)
{
    const struct qn__slot *x[TOUCHED], *y[TOUCHED];
    int written, unused, m = touched(p, b, order[b], y, &unused);
    touched(p, a, order[a], x, &written);
    for (int i = 0; i < written; i++)
        for (int k = 0; k < m; k++)
            if (overlap(x[i], y[k]))
                return qn__fail(err, 7070, QN_AT_FIELD(p->g->node[order[a]].name),
                                "plan: step %d writes where step %d of the same launch works; expected disjoint", a, b);
    return QN_OK;
}

static qn_status check_group(const struct qn__plan *p, const int32_t *order, int32_t k, qn_error *err)
{
    int32_t end = k + (p->group ? p->group[k] : 1);
    for (int32_t a = k; a < end; a++)
        for (int32_t b = k; b < end; b++)
            if (a != b) QN_TRY(check_pair(p, order, a, b, err));
    return QN_OK;
}

/* What a step of another stream touches shares its bytes with no other value. */
static qn_status check_stream(const struct qn__plan *p, int32_t k, int32_t i, qn_error *err)
{
    const struct qn__slot *x[TOUCHED];
    int written;
    if (!p->stream || p->stream[k] == QN_STREAM_COMPUTE) return QN_OK;
    int n = touched(p, k, i, x, &written);
    for (int a = 0; a < n; a++)
        for (int32_t j = 1; j < p->g->n + p->n_steps; j++) {
            const struct qn__slot *s = &p->slot[j];
            bool same = x[a] == s || (s->offset == x[a]->offset && s->bytes == x[a]->bytes && j < p->g->n &&
                                      qn__plan_identity(p->g, j) != j);
            if (!same && overlap(x[a], s))
                return qn__fail(err, 7070, QN_AT_FIELD(p->g->node[i].name),
                                "plan: step %d of another stream works in bytes that are reused; expected its own", k);
        }
    return QN_OK;
}

qn_status qn__plan_verify(const struct qn__plan *p, const int32_t *order, const qn_alloc *alloc, qn_error *err)
{
    size_t room = (size_t)p->g->n + (size_t)p->n_steps + 1;
    struct owners o = { qn__calloc(alloc, room, sizeof(struct owner)), 0 };
    if (!o.at) return qn__nomem(err, "plan", room * sizeof(struct owner));
    qn_status status = QN_OK;
    for (int32_t k = 0; k < p->n_steps && !status; k++) {
        status = check_step(p, &o, k, order[k], err);
        if (!status) status = check_group(p, order, k, err);
        if (!status) status = check_stream(p, k, order[k], err);
    }
    qn__free(alloc, o.at, room * sizeof(struct owner));
    return status;
}
