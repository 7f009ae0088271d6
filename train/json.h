/* json.h - JSON with `//` and slash-star comments, every value with its line and column.
 *
 * A scanner of ours checks the text, blanks the comments (so offsets stay) and notes where each value
 * begins; jansson then reads the values. The result is a small tree of our own, in which --set and
 * variables can be worked in without losing the place each value came from. */
#ifndef QN_TRAIN_JSON_H
#define QN_TRAIN_JSON_H
#include "../core/base.h"
#include "../include/quern/recipe.h"

/* ---- memory: many small pieces, freed together ---- */
struct qn__pool {
    struct qn__pool_block *head;
};
void *qn__pool_get(struct qn__pool *pool, size_t count, size_t size); /* zeroed; NULL if none left */
char *qn__pool_text(struct qn__pool *pool, const char *text, size_t n);
void qn__pool_free(struct qn__pool *pool);

/* ---- text that grows; `failed` is sticky ---- */
struct qn__text {
    char *s;
    size_t n, cap;
    bool failed;
};
void qn__text_add(struct qn__text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void qn__text_json(struct qn__text *t, const char *s); /* as a JSON string with its quotes */

/* ---- the tree ---- */
enum qn__json_kind { QN__NULL, QN__BOOL, QN__INT, QN__REAL, QN__STRING, QN__ARRAY, QN__OBJECT };

struct qn__json {
    enum qn__json_kind kind;
    int32_t line, column;         /* 1-based, in characters; of the value      */
    int32_t key_line, key_column; /* of its key in an object                   */
    int32_t set;                  /* 0: from the file; n: from the n-th --set  */
    int32_t count;                /* of children                               */
    const char *key;              /* NULL outside objects                      */
    bool boolean;
    bool said; /* a problem has been noted: no more about it */
    int64_t integer;
    double real;
    const char *text; /* STRING; or the text of a --set value      */
    struct qn__json *child, *next;
};

struct qn__json *qn__json_get(const struct qn__json *object, const char *key);
struct qn__json *qn__json_at(const struct qn__json *array, int64_t index);

/* ---- problems ---- */
struct qn__report {
    const char *file;
    const char *const *sets;
    qn_recipe_errors *errors; /* never NULL */
    qn_status status;         /* of the first problem */
};

/* Notes a problem at a value (or its key; where may be NULL). Said twice, it counts once. */
void qn__problem(struct qn__report *report, int code, const struct qn__json *where, bool at_key, const char *field,
                 const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* Reads a whole text; `any` allows a root that is not an object. NULL after problems. */
struct qn__json *qn__json_parse(struct qn__pool *pool, const char *text, size_t bytes, bool any,
                                struct qn__report *report);
#endif
