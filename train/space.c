/* space.c - see space.h. */
#include "space.h"
#include "../core/file.h"
#include "../core/philox.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SPACE_BYTES = 1 << 20, MOST_PARAMETERS = 64, MOST_POINTS = 1000000000 };

/* ---- reading ------------------------------------------------------------------------------------------- */

static bool is_number(const struct qn__json *v) { return v && (v->kind == QN__INT || v->kind == QN__REAL); }

static bool is_plain(const struct qn__json *v)
{
    return is_number(v) || v->kind == QN__BOOL || (v->kind == QN__STRING && strlen(v->text) < 200);
}

static void read_list(struct qn__parameter *p, const struct qn__json *v, struct qn__report *report)
{
    p->kind = QN_RANGE_LIST;
    if (v->count == 0) qn__problem(report, 2108, v, false, p->key, "empty list; expected at least one value");
    for (const struct qn__json *c = v->child; c; c = c->next)
        if (!is_plain(c)) qn__problem(report, 2107, c, false, p->key, "expected a number, a text, true or false");
}

static void read_bounds(struct qn__parameter *p, const struct qn__json *v, struct qn__report *report)
{
    const struct qn__json *low = qn__json_at(v, 0), *high = qn__json_at(v, 1);
    if (!is_number(low) || !is_number(high) || v->count != 2) {
        qn__problem(report, 2107, v, false, p->key, "expected [low, high]");
        return;
    }
    p->low = low->real;
    p->high = high->real;
    if (!(p->low < p->high))
        qn__problem(report, 2108, v, false, p->key, "[%g, %g]; expected low < high", p->low, p->high);
    else if (p->kind == QN_RANGE_LOG && !(p->low > 0))
        qn__problem(report, 2108, low, false, p->key, "%g; expected a number above 0 for \"log\"", p->low);
}

static void read_range(struct qn__parameter *p, const struct qn__json *v, struct qn__report *report)
{
    static const char *const keys[] = { "uniform", "log", "steps" };
    const struct qn__json *uniform = qn__json_get(v, "uniform"), *log = qn__json_get(v, "log");
    for (const struct qn__json *c = v->child; c; c = c->next) {
        int near = qn__nearest(c->key, keys, 3);
        bool known = near >= 0 && strcmp(keys[near], c->key) == 0;
        if (!known && near >= 0)
            qn__problem(report, 2105, c, true, p->key, "unknown key; did you mean \"%s\"?", keys[near]);
        else if (!known)
            qn__problem(report, 2105, c, true, p->key, "unknown key; expected uniform, log or steps");
        if (!known) return;
    }
    if (!uniform == !log) {
        qn__problem(report, 2112, v, false, p->key, "expected one of \"uniform\" and \"log\"");
        return;
    }
    p->kind = log ? QN_RANGE_LOG : QN_RANGE_UNIFORM;
    read_bounds(p, log ? log : uniform, report);
    const struct qn__json *steps = qn__json_get(v, "steps");
    if (steps && (steps->kind != QN__INT || steps->integer < 2 || steps->integer > 1000))
        qn__problem(report, 2108, steps, false, p->key, "steps: expected an integer 2..1000");
    p->steps = steps ? steps->integer : 0;
}

static void read_parameters(struct qn__space *s, const struct qn__json *root, struct qn__report *report)
{
    if (root->count < 1 || root->count > MOST_PARAMETERS) {
        qn__problem(report, 2108, root, false, "space", "%d keys; expected 1..%d", root->count, MOST_PARAMETERS);
        return;
    }
    s->parameter = qn__pool_get(&s->pool, (size_t)root->count, sizeof *s->parameter);
    if (!s->parameter) {
        qn__problem(report, 5002, NULL, false, "space", "cannot allocate %d parameters", root->count);
        return;
    }
    for (const struct qn__json *c = root->child; c; c = c->next) {
        struct qn__parameter *p = &s->parameter[s->n++];
        *p = (struct qn__parameter){ .key = c->key, .node = c };
        if (strlen(c->key) > 150 || strchr(c->key, '='))
            qn__problem(report, 2105, c, true, NULL, "expected a key path as for --set, at most 150 bytes");
        else if (c->kind == QN__ARRAY)
            read_list(p, c, report);
        else if (c->kind == QN__OBJECT)
            read_range(p, c, report);
        else
            qn__problem(report, 2107, c, false, c->key, "expected a list or a range");
    }
}

void qn__space_read(struct qn__space *s, const char *path, struct qn__report *report)
{
    qn_error err;
    memset(s, 0, sizeof *s);
    if (qn__file_read_all(NULL, path, SPACE_BYTES, &s->text, &s->bytes, &err)) {
        report->errors->list[0] = err;
        report->errors->count = report->errors->kept = 1;
        report->status = qn_error_status(&err);
        return;
    }
    const struct qn__json *root = qn__json_parse(&s->pool, s->text, s->bytes, false, report);
    if (root) read_parameters(s, root, report);
}

void qn__space_free(struct qn__space *s)
{
    qn__pool_free(&s->pool);
    qn__free(NULL, s->text, s->bytes + 1);
    memset(s, 0, sizeof *s);
}

/* ---- values ------------------------------------------------------------------------------------------------ */

static void put_entry(char *out, const char *key, const struct qn__json *v)
{
    char number[32];
    if (v->kind == QN__STRING)
        snprintf(out, QN_SETTING_MAX, "%s=%s", key, v->text);
    else if (v->kind == QN__BOOL)
        snprintf(out, QN_SETTING_MAX, "%s=%s", key, v->boolean ? "true" : "false");
    else if (v->kind == QN__INT)
        snprintf(out, QN_SETTING_MAX, "%s=%lld", key, (long long)v->integer);
    else
        snprintf(out, QN_SETTING_MAX, "%s=%s", key, qn__format_f64(number, v->real));
}

/* u in [0, 1]; four digits are as many as a search can tell apart, and can be read and typed. */
static void put_real(char *out, const struct qn__parameter *p, double u)
{
    char number[32];
    double x = p->kind == QN_RANGE_LOG ? exp(log(p->low) + u * (log(p->high) - log(p->low)))
                                       : p->low + u * (p->high - p->low);
    double scale = x != 0 ? pow(10, 3 - floor(log10(fabs(x)))) : 1, rounded = nearbyint(x * scale) / scale;
    if (p->whole) rounded = nearbyint(x);
    if (isfinite(rounded) && rounded >= p->low && rounded <= p->high) x = rounded;
    if (x == nearbyint(x) && fabs(x) < 1e15) /* never 2e+01, which is no integer */
        snprintf(out, QN_SETTING_MAX, "%s=%lld", p->key, (long long)x);
    else
        snprintf(out, QN_SETTING_MAX, "%s=%s", p->key, qn__format_f64(number, x));
}

void qn__space_random(const struct qn__space *s, int i, int64_t k, uint64_t seed, char out[QN_SETTING_MAX])
{
    const struct qn__parameter *p = &s->parameter[i];
    uint64_t key = qn__stream_key(seed, qn__hash_str(p->key));
    double u = (double)qn__philox(key, (uint32_t)k, (uint32_t)((uint64_t)k >> 32), 0, 0).w[0] * 0x1p-32;
    if (p->kind == QN_RANGE_LIST)
        put_entry(out, p->key, qn__json_at(p->node, (int64_t)(u * p->node->count)));
    else
        put_real(out, p, u);
}

static int64_t points_of(const struct qn__parameter *p) { return p->kind == QN_RANGE_LIST ? p->node->count : p->steps; }

int64_t qn__space_grid(const struct qn__space *s, struct qn__report *report)
{
    int64_t n = 1;
    bool whole = true;
    for (int i = 0; i < s->n; i++) {
        int64_t points = points_of(&s->parameter[i]);
        if (points < 1) {
            qn__problem(report, 2106, s->parameter[i].node, false, s->parameter[i].key,
                        "a range without \"steps\"; expected steps, or a list, for a grid");
            whole = false;
        } else {
            n = n > MOST_POINTS / points ? MOST_POINTS : n * points;
        }
    }
    return whole ? n : 0;
}

/* The last key changes fastest. */
void qn__space_point(const struct qn__space *s, int i, int64_t k, char out[QN_SETTING_MAX])
{
    const struct qn__parameter *p = &s->parameter[i];
    int64_t at = k - 1;
    for (int j = s->n - 1; j > i; j--) at /= points_of(&s->parameter[j]);
    at %= points_of(p);
    if (p->kind == QN_RANGE_LIST)
        put_entry(out, p->key, qn__json_at(p->node, at));
    else
        put_real(out, p, (double)at / (double)(p->steps - 1));
}

bool qn__space_sample(const struct qn__space *s, int i, int64_t which, char out[QN_SETTING_MAX])
{
    const struct qn__parameter *p = &s->parameter[i];
    if (which >= (p->kind == QN_RANGE_LIST ? p->node->count : 2)) return false;
    if (p->kind == QN_RANGE_LIST)
        put_entry(out, p->key, qn__json_at(p->node, which));
    else
        put_real(out, p, (double)which);
    return true;
}
