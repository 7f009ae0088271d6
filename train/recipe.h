/* recipe.h - the stations of a recipe: text, tree, --set, variables, draft, checks, flat list. Private. */
#ifndef QN_TRAIN_RECIPE_H
#define QN_TRAIN_RECIPE_H
#include "json.h"
#include "schema.h"

struct qn__reader {
    struct qn__pool *pool;
    struct qn__report report;
    const struct qn__json *root;
    bool no_memory;
};

/* "path.key" and "path[i]" in a caller's buffer. */
enum { QN__PATH = 256 };
const char *qn__path_key(char buf[QN__PATH], const char *path, const char *key);
const char *qn__path_at(char buf[QN__PATH], const char *path, int64_t index);

/* recipe_set.c: works the --set texts into the tree; then puts values in place of "$name". */
void qn__recipe_sets(struct qn__reader *rd, struct qn__json *root, const char *const *sets, int n);
void qn__recipe_vars(struct qn__reader *rd, struct qn__json *root);

/* recipe_read.c: fills the struct at `base` from an object by its table. */
void qn__read_object(struct qn__reader *rd, const struct qn__table *t, const struct qn__json *node, void *base,
                     const char *path);
void *qn__reader_get(struct qn__reader *rd, size_t count, size_t size); /* NULL: noted as a problem */
/* `found; expected ...` for a value of the wrong type. */
void qn__read_wrong(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node, const char *path);
const char *qn__json_show(const struct qn__json *node, char *buf, size_t size);

/* recipe_model.c: lists of layers; then the flat list with names and inputs. */
void qn__read_layers(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node,
                     struct qn__layers *out, const char *path);
void qn__read_branches(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node,
                       struct qn__branches *out, const char *path);
void qn__recipe_flatten(struct qn__reader *rd, struct qn__draft *d);

/* recipe_check.c: what concerns more than one key; fills in what follows from others. */
void qn__recipe_check(struct qn__reader *rd, struct qn__draft *d);
#endif
