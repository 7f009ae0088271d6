/* state.c - the run's scalars as JSON; a run as a checkpoint and back: see state.h. */
#include "state.h"
#include "../core/base.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

void qn__run_state_init(struct qn__run_state *s)
{
#define X(type, name, first) s->name = (QN_FIELD_##type){ first };
    QN_RUN_STATE_MAP(X)
#undef X
}

/* Doubles travel as text: JSON numbers would pass through a printf of fixed precision and cannot be NaN. */
static json_t *value_i(int64_t x) { return json_integer(x); }
static json_t *value_d(double x)
{
    char buf[32];
    return json_string(qn__format_f64(buf, x));
}
static json_t *value_l(struct qn__losses l)
{
    json_t *a = json_array();
    for (int i = 0; i < l.n; i++)
        if (json_array_append_new(a, value_d(l.at[i]))) {
            json_decref(a);
            return NULL;
        }
    return a;
}
static json_t *value_k(struct qn__skips s)
{
    json_t *a = json_array();
    for (int i = 0; i < s.n; i++) {
        json_t *row = json_pack("[I,I,I]", (json_int_t)s.at[i].epoch, (json_int_t)s.at[i].from, (json_int_t)s.at[i].to);
        if (json_array_append_new(a, row)) {
            json_decref(a);
            return NULL;
        }
    }
    return a;
}
static bool read_i(const json_t *v, int64_t *x)
{
    if (!json_is_integer(v)) return false;
    *x = json_integer_value(v);
    return true;
}
static bool read_d(const json_t *v, double *x)
{
    return json_is_string(v) && qn__parse_f64(json_string_value(v), true, x);
}

static bool read_l(const json_t *v, struct qn__losses *l)
{
    size_t n = json_array_size(v);
    if (!json_is_array(v) || n > QN_LOSSES_MAX) return false;
    l->n = (int)n;
    for (size_t i = 0; i < n; i++)
        if (!read_d(json_array_get(v, i), &l->at[i])) return false;
    return true;
}
static bool read_k(const json_t *v, struct qn__skips *s)
{
    size_t n = json_array_size(v);
    if (!json_is_array(v) || n > QN_SKIPS_MAX) return false;
    s->n = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(v, i);
        if (!read_i(json_array_get(row, 0), &s->at[i].epoch) || !read_i(json_array_get(row, 1), &s->at[i].from) ||
            !read_i(json_array_get(row, 2), &s->at[i].to))
            return false;
    }
    return true;
}

qn_status qn__run_state_write(const struct qn__run_state *s, char **out, qn_error *err)
{
    json_t *o = json_object();
    bool ok = o != NULL;
#define X(type, name, first) ok = ok && json_object_set_new(o, #name, value_##type(s->name)) == 0;
    QN_RUN_STATE_MAP(X)
#undef X
    *out = ok ? json_dumps(o, JSON_INDENT(2)) : NULL;
    json_decref(o);
    return *out ? QN_OK : qn__nomem(err, "progress.json", 1024);
}

qn_status qn__run_state_read(struct qn__run_state *s, const char *text, const char *file, qn_error *err)
{
    json_error_t e;
    json_t *o = text ? json_loads(text, JSON_REJECT_DUPLICATES, &e) : NULL;
    const char *bad = NULL;
    if (!json_is_object(o)) bad = "the whole";
#define X(type, name, first) \
    if (!bad && !read_##type(json_object_get(o, #name), &s->name)) bad = #name;
    QN_RUN_STATE_MAP(X)
#undef X
    qn_status status = bad ? qn__fail(err, 4034, QN_AT_FILE(file),
                                      "progress.json: %s: missing or malformed; expected its value", bad)
                           : QN_OK;
    json_decref(o);
    return status;
}

/* ---- saving --------------------------------------------------------------------------------------------------- */

static bool in_model(qn_kind kind) { return kind == QN_PARAM || kind == QN_BUFFER; }

static int64_t list_tensors(const qn_store *store, bool model, qn_tensor_data *out)
{
    int64_t n = 0;
    for (int i = 0; i < qn_store_count(store); i++) {
        const qn_store_entry *e = qn_store_at(store, i);
        if (in_model(e->kind) != model) continue;
        out[n] = (qn_tensor_data){ .name = e->name, .dtype = e->dtype, .rank = e->rank, .data = e->data };
        memcpy(out[n++].dim, e->dims, sizeof e->dims);
    }
    return n;
}

struct texts {
    char *recipe, *transform, *progress;
};

static qn_status make_texts(const struct qn__save *s, struct texts *t, qn_error *err)
{
    QN_TRY(qn_recipe_write(s->net->recipe, &t->recipe, NULL, err));
    QN_TRY(qn_transform_to_json(&t->transform, s->transform, err));
    return qn__run_state_write(s->state, &t->progress, err);
}

static qn_status write_checkpoint(const struct qn__save *s, qn_tensor_data *room, const struct texts *t, qn_error *err)
{
    const qn_checkpoint_part parts[] = { { "recipe.json", t->recipe },
                                         { "transform.json", t->transform },
                                         { "progress.json", t->progress } };
    qn_checkpoint_contents c = { .step = s->state->steps, .run_id = s->run_id, .parts = parts, .n_parts = 3 };
    c.model = room;
    c.n_model = list_tensors(s->net->store, true, room);
    c.state = room + c.n_model;
    c.n_state = list_tensors(s->net->store, false, room + c.n_model);
    return s->name ? qn_checkpoint_write_named(s->dir, s->name, &c, err)
                   : qn_checkpoint_write(s->dir, &c, s->keep, err);
}

qn_status qn__checkpoint_save(const struct qn__save *s, qn_error *err)
{
    struct texts t = { NULL, NULL, NULL };
    size_t n = (size_t)qn_store_count(s->net->store);
    qn_tensor_data *room = qn__calloc(NULL, n, sizeof *room);
    qn_status status = room ? make_texts(s, &t, err) : qn__nomem(err, "checkpoint", n * sizeof *room);
    if (!status) status = qn_store_pull(s->net->store, NULL, err);
    if (!status) status = write_checkpoint(s, room, &t, err);
    qn__free(NULL, room, n * sizeof *room);
    free(t.recipe);
    free(t.transform);
    free(t.progress);
    return status;
}

/* ---- loading -------------------------------------------------------------------------------------------------- */

static qn_status read_all(qn_store *store, const qn_safetensors *st, bool model, bool fill, qn_error *err)
{
    for (int i = 0; i < qn_store_count(store); i++) {
        const qn_store_entry *e = qn_store_at(store, i);
        qn_tensor_info info;
        if (in_model(e->kind) != model || !e->data) continue;
        if (!qn_safetensors_find(st, e->name, &info))
            return qn__fail(err, 4041, QN_AT_FIELD(e->name), "missing in the checkpoint; expected this tensor");
        if (fill || model) QN_TRY(qn_safetensors_read(st, &info, fill ? e->data : NULL, e->dtype, err));
        if (fill) QN_TRY(qn_store_push(store, e->name, err));
    }
    return QN_OK;
}

static qn_status match(const qn_store *store, const qn_safetensors *st, bool model, qn_error *err)
{
    size_t n = (size_t)qn_store_count(store);
    qn_tensor_data *expected = qn__calloc(NULL, n, sizeof *expected);
    if (!expected) return qn__nomem(err, "checkpoint", n * sizeof *expected);
    int64_t count = list_tensors(store, model, expected);
    qn_status status = qn_tensors_match(st, expected, count, QN_MATCH_EXTRA, NULL, NULL, err);
    qn__free(NULL, expected, n * sizeof *expected);
    return status;
}

qn_status qn__checkpoint_load(qn_store *store, const qn_checkpoint *ck, unsigned what, qn_error *err)
{
    const qn_safetensors *model = qn_checkpoint_model(ck), *state = qn_checkpoint_state(ck);
    if (what & QN_LOAD_MODEL) QN_TRY(match(store, model, true, err));
    if (what & QN_LOAD_STATE) QN_TRY(match(store, state, false, err));
    if (what & QN_LOAD_MODEL) QN_TRY(read_all(store, model, true, false, err)); /* values finite, before any is kept */
    if (what & QN_LOAD_MODEL) QN_TRY(read_all(store, model, true, true, err));
    if (what & QN_LOAD_STATE) QN_TRY(read_all(store, state, false, true, err));
    return QN_OK;
}
