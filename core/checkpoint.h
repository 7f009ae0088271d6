/* checkpoint.h - what the files of the checkpoint chapter share. Not installed. */
#ifndef QN_CORE_CHECKPOINT_H
#define QN_CORE_CHECKPOINT_H
#include "safetensors.h"
#include "../include/quern/checkpoint.h"
#include <jansson.h>

#define QN__MANIFEST "manifest.json"
#define QN__MODEL "model.safetensors"
#define QN__STATE "state.safetensors"
enum { QN__MANIFEST_CAP = 16 << 20, QN__PART_CAP = 16 << 20, QN__MAX_FILES = QN_CHECKPOINT_MAX_PARTS + 2 };

struct qn__manifest_file {
    char name[104];
    int64_t bytes;
    uint32_t crc;
    json_t *tensors; /* borrowed from root: name -> "89abcdef"; NULL for a text */
};

struct qn__manifest {
    json_t *root;
    int64_t step;
    const char *run; /* borrowed from root */
    int n_files;
    struct qn__manifest_file file[QN__MAX_FILES];
};

/* Parses and validates the text of a manifest (E4021, E4022 for file names, E4023). path: messages. */
qn_status qn__manifest_parse(struct qn__manifest *out, const char *text, size_t n, const char *path, qn_error *err);
void qn__manifest_free(struct qn__manifest *m);

/* Makes the text of a manifest; n_tensors and friends are parallel to files. */
struct qn__manifest_entry {
    const char *name;
    int64_t bytes;
    uint32_t crc;
    const qn_tensor_data *tensors; /* NULL: a text */
    const uint32_t *tensor_crc;
    int64_t n_tensors;
};
/* *text is malloc'ed by jansson's rules: free(). */
qn_status qn__manifest_build(char **text, size_t *n, int64_t step, const char *run,
                             const struct qn__manifest_entry *entry, int n_entries, const char *path, qn_error *err);

/* NULL, or why `name` may not name a part or a named checkpoint. */
const char *qn__checkpoint_bad_name(const char *name);

/* zlib's CRC-32 over any number of bytes. */
uint32_t qn__crc32(uint32_t crc, const void *data, size_t n);
uint32_t qn__crc32_join(uint32_t a, uint32_t b, int64_t b_bytes);

/* Directory name of a step; false from step_of if `name` is not one, in its only spelling. */
void qn__step_name(char out[32], int64_t step);
bool qn__step_of(const char *name, int64_t *step);

/* The steps that have a directory in dir, ascending; free with qn__free(NULL, s->at, s->cap * 8). */
struct qn__steps {
    int64_t *at;
    size_t n, cap;
};
qn_status qn__steps_list(struct qn__steps *out, int dir, const char *shown, qn_error *err);

/* path for messages: dir/name, cut to fit. */
struct qn__shown {
    char s[256];
};
struct qn__shown qn__join(const char *dir, const char *name);
#endif
