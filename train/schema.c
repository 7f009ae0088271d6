/* schema.c - the tables of schema.def: see schema.h. */
#include "schema.h"
#include <stddef.h>
#include <stdio.h>

#define X(e, s) s,
static const char *const source_names[] = { QN_SOURCE_MAP(X) NULL };
static const char *const normalize_names[] = { QN_NORMALIZE_MAP(X) NULL };
static const char *const missing_names[] = { QN_MISSING_MAP(X) NULL };
static const char *const raw_names[] = { QN_LAYER_MAP(X) "repeat", "residual", NULL };
static const char *const init_names[] = { QN_INIT_MAP(X) NULL };
static const char *const gelu_names[] = { QN_GELU_MAP(X) NULL };
static const char *const loss_names[] = { QN_LOSS_MAP(X) NULL };
static const char *const optimizer_names[] = { QN_OPTIMIZER_MAP(X) NULL };
static const char *const schedule_names[] = { QN_SCHEDULE_MAP(X) NULL };
static const char *const metric_names[] = { QN_METRIC_MAP(X) NULL };
static const char *const average_names[] = { QN_AVERAGE_MAP(X) NULL };
static const char *const spike_names[] = { QN_SPIKE_MAP(X) NULL };
#undef X
static const char *const set_names[] = { "fashion-mnist", "mnist", NULL };
/* The layer kinds from QN_LAYER_RELU to QN_LAYER_SOFTMAX, in that order. */
static const char *const activation_names[] = { "relu",    "leaky_relu", "elu",      "gelu",    "silu",
                                                "sigmoid", "tanh",       "softplus", "softmax", NULL };
_Static_assert(sizeof activation_names / sizeof *activation_names == QN_LAYER_SOFTMAX - QN_LAYER_RELU + 2,
               "activations and layer kinds differ");

#define V(variant) (UINT64_C(1) << (variant))
#define M(member) offsetof(T, member)
#define OPTIONAL 1
#define LAYER 2

/* First pass: names of the tables, for tables within tables. */
#define TABLE(id, title_, type, variants_, voffset, selector_, short_form_, flags, doc_) \
    extern const struct qn__table qn__##id##_table;
#define KEY(name_, kind_, member, min_, max_, standard_, only_, ...)
#define END(id)
#include "schema.def"
#undef TABLE
#undef KEY
#undef END

/* Second pass: the rows. */
#define TABLE(id, title_, type, variants_, voffset, selector_, short_form_, flags, doc_) \
    static const struct qn__field id##_fields[] = {
#define KEY(name_, kind_, member, min_, max_, standard_, only_, ...) \
    { .name = name_, \
      .kind = QN__K_##kind_, \
      .offset = M(member), \
      .min = min_, \
      .max = max_, \
      .standard = standard_, \
      .only = only_, \
      __VA_ARGS__ },
#define END(id) \
    } \
    ;
#include "schema.def"
#undef TABLE
#undef KEY
#undef END

/* Third pass: the tables. */
#define TABLE(id, title_, type, variants_, voffset, selector_, short_form_, flags, doc_) \
    const struct qn__table qn__##id##_table = { .title = title_, \
                                                .doc = doc_, \
                                                .field = id##_fields, \
                                                .n = (int)(sizeof id##_fields / sizeof *id##_fields), \
                                                .size = sizeof(type), \
                                                .variants = variants_, \
                                                .variant_offset = voffset, \
                                                .selector = selector_, \
                                                .short_form = short_form_, \
                                                .optional = ((flags)&OPTIONAL) != 0, \
                                                .layer = ((flags)&LAYER) != 0 };
#define KEY(name_, kind_, member, min_, max_, standard_, only_, ...)
#define END(id)
#include "schema.def"

bool qn__field_fits(const struct qn__field *f, int variant)
{
    return f->only == 0 || (variant >= 0 && (f->only >> variant & 1));
}

/* Whole numbers without exponent as far as people read them so. */
static void bound(double x, char buf[32])
{
    bool whole = x > -1e16 && x < 1e16 && x == (double)(int64_t)x;
    if (whole)
        snprintf(buf, 32, "%lld", (long long)x);
    else
        qn__format_f64(buf, x);
}

static void range(const struct qn__field *f, char *buf, size_t size)
{
    char low[32], high[32];
    bound(f->min, low);
    bound(f->max, high);
    snprintf(buf, size, "%s..%s", low, high);
}

static void choices(const struct qn__field *f, char *buf, size_t size)
{
    size_t at = (size_t)snprintf(buf, size, "one of ");
    for (int i = 0; f->choices[i] && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, "%s%s", i ? ", " : "", f->choices[i]);
}

const char *qn__field_type(const struct qn__field *f, char *buf, size_t size)
{
    char r[72];
    range(f, r, sizeof r);
    switch (f->kind) {
    case QN__K_FLAG: snprintf(buf, size, "true or an object of options"); break;
    case QN__K_BOOL: snprintf(buf, size, "true or false"); break;
    case QN__K_INT:
        if (f->min == f->max)
            snprintf(buf, size, "%.0f", f->min);
        else
            snprintf(buf, size, "an integer %s", r);
        break;
    case QN__K_REAL: snprintf(buf, size, f->or_true ? "a number %s or true" : "a number %s", r); break;
    case QN__K_CHANCE: snprintf(buf, size, "a number %s or true", r); break;
    case QN__K_TEXT:
        if (f->choices)
            choices(f, buf, size);
        else
            snprintf(buf, size, "a string");
        break;
    case QN__K_CHOICE: choices(f, buf, size); break;
    case QN__K_PAIR: snprintf(buf, size, "an integer %s or two", r); break;
    case QN__K_PADDING: snprintf(buf, size, "an integer %s, two, or \"same\"", r); break;
    case QN__K_REAL2: snprintf(buf, size, "two numbers %s", r); break;
    case QN__K_TEXTS: snprintf(buf, size, "a list of strings"); break;
    case QN__K_INTS: snprintf(buf, size, "a list of 1..7 integers %s", r); break;
    case QN__K_REALS: snprintf(buf, size, "a list of numbers %s", r); break;
    case QN__K_OBJECT: snprintf(buf, size, "an object%s", f->table->short_form ? " or a string" : ""); break;
    case QN__K_OBJECTS: snprintf(buf, size, "a list of objects%s", f->table->short_form ? " or strings" : ""); break;
    case QN__K_VARS: snprintf(buf, size, "an object"); break;
    case QN__K_LAYERS: snprintf(buf, size, "a list of layers"); break;
    case QN__K_BRANCHES: snprintf(buf, size, "true or a list of lists of layers"); break;
    }
    return buf;
}
