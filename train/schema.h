/* schema.h - the one description of what a recipe may contain. Validator, defaults, writer and
 * documentation are all loops over these tables; the rows are in schema.def. */
#ifndef QN_TRAIN_SCHEMA_H
#define QN_TRAIN_SCHEMA_H
#include "json.h"

/* Type of a key, and of the member its value goes to. */
enum qn__kind {
    QN__K_FLAG,     /* true, or an object with the options; no member          */
    QN__K_BOOL,     /* bool                                                    */
    QN__K_INT,      /* int64_t; null: -1                                       */
    QN__K_REAL,     /* double; null: -1                                        */
    QN__K_CHANCE,   /* double; true: 0.5, false: 0                             */
    QN__K_TEXT,     /* const char *; null: NULL                                */
    QN__K_CHOICE,   /* int (an enum) of `choices`; null: -1                    */
    QN__K_PAIR,     /* int64_t[2]; one number for both                         */
    QN__K_PADDING,  /* the same, or "same"                                     */
    QN__K_REAL2,    /* double[2]                                               */
    QN__K_TEXTS,    /* qn_texts; one string for a list of one                  */
    QN__K_INTS,     /* qn_ints                                                 */
    QN__K_REALS,    /* qn_reals                                                */
    QN__K_OBJECT,   /* a struct described by `table`                           */
    QN__K_OBJECTS,  /* int32_t count, then a pointer: list of such structs     */
    QN__K_VARS,     /* no member: any object                                   */
    QN__K_LAYERS,   /* struct qn__layers                                       */
    QN__K_BRANCHES, /* struct qn__branches; true: none (inputs from "from")    */
};

struct qn__table;

struct qn__field {
    const char *name;
    enum qn__kind kind;
    size_t offset;
    size_t count_offset; /* OBJECTS: of the int32_t count                              */
    double min, max;
    const char *standard;       /* default as JSON; NULL: must be given                     */
    uint64_t only;              /* bit per variant for which the key exists; 0: for all       */
    int selects;                /* variant (plus 1) chosen by the presence of this key        */
    bool or_true;               /* `true` stands for the default                              */
    const char *const *choices; /* NULL-terminated                                            */
    const struct qn__table *table;
    const char *doc;
};

struct qn__table {
    const char *title, *doc;
    const struct qn__field *field;
    int n;
    size_t size;
    const char *const *variants; /* NULL: none                                                */
    size_t variant_offset;       /* of the enum that tells which                              */
    const char *selector;        /* key that names the variant; NULL: by `selects`            */
    const char *short_form;      /* a bare string stands for { short_form: string }           */
    bool optional;               /* begins with `bool on`; `false` or absence turns it off    */
    bool layer;
};

/* Layers as read, before blocks are written out. */
struct qn__raw;
struct qn__layers {
    int32_t n;
    struct qn__raw *v;
};
struct qn__branches {
    int32_t n;
    struct qn__layers *v;
};
struct qn__raw {
    qn_layer l; /* first, so that the layer table fits both */
    int kind;   /* as l.kind, or one of the two below       */
    const char *name;
    qn_texts from;
    int activation; /* a qn_layer_kind - QN_LAYER_RELU, or -1 */
    int64_t repeat;
    struct qn__layers layers, body, shortcut;
    struct qn__branches branches;
    const struct qn__json *node;
    const char *path;
};
enum { QN__RAW_REPEAT = QN_LAYER_COUNT, QN__RAW_RESIDUAL };

/* The recipe as read. */
struct qn__draft {
    qn_recipe r;
    struct qn__layers model;
};

extern const struct qn__table qn__recipe_table, qn__layer_table;

/* Does the key exist for this variant? */
bool qn__field_fits(const struct qn__field *f, int variant);

/* "an integer 1..32", "one of a, b"; returns buf. */
const char *qn__field_type(const struct qn__field *f, char *buf, size_t size);
#endif
