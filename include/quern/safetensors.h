/* safetensors.h - reading and writing tensors in the safetensors format (Hugging Face).
 *
 *     qn_safetensors *st;
 *     qn_tensor_info w;
 *     if (qn_safetensors_open(&st, "model.safetensors", NULL, &err)) fail(err.text);
 *     if (qn_safetensors_find(st, "fc1.weight", &w))
 *         status = qn_safetensors_read(st, &w, buffer, QN_F32, &err);
 *     qn_safetensors_close(st);
 *
 * A file may come from anyone. Opening validates everything the header claims against the size of the
 * file before any tensor is looked at; it executes nothing, takes at most three times the header's bytes
 * of memory and never trusts a length. The rules are those of the reference implementation, and in
 * these points stricter: no unknown keys in an entry, at most QN_MAX_DIMS dimensions, fewer than 2^48
 * elements, names of 1..512 bytes without control characters, no NUL in any string, at most 1,000,000
 * tensors and 65,536 metadata entries, and a header of at most 16 MiB unless the caller allows more. */
#ifndef QUERN_SAFETENSORS_H
#define QUERN_SAFETENSORS_H
#include "base.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct qn_safetensors qn_safetensors;

typedef struct qn_safetensors_opts {
    const qn_alloc *alloc; /* NULL: malloc                                                      */
    size_t max_header;     /* bytes; 0: 16 MiB; at most 100,000,000                             */
    bool allow_nonfinite;  /* false: qn_safetensors_read refuses NaN and infinities             */
} qn_safetensors_opts;

/* One tensor of a file. `name` lives as long as the file is open. */
typedef struct qn_tensor_info {
    const char *name;
    const char *dtype_name; /* as in the file: "F32", "F8_E4M3", ...                             */
    qn_dtype dtype;         /* QN_DTYPE_COUNT: valid, but not a type of Quern (cannot be read)   */
    int rank;
    int64_t dim[QN_MAX_DIMS];
    int64_t count;  /* elements                                                                 */
    int64_t bytes;  /* in the file                                                              */
    int64_t offset; /* of the first byte, from the start of the file                            */
} qn_tensor_info;

/* Opens and validates. Errors: E6001 (cannot open or read), E4011 (size, header length), E4012 (header
 * text), E4013 (a tensor's entry), E4014 (key twice), E4015 (size of the data), E5002. */
QN_API QN_CHECKED qn_status qn_safetensors_open(qn_safetensors **out, const char *path, const qn_safetensors_opts *opts,
                                                qn_error *err);
/* The same for a file already in memory, which must outlive *out; `name` is for messages. */
QN_API QN_CHECKED qn_status qn_safetensors_open_memory(qn_safetensors **out, const void *data, size_t size,
                                                       const char *name, const qn_safetensors_opts *opts,
                                                       qn_error *err);
/* NULL is allowed. */
QN_API void qn_safetensors_close(qn_safetensors *st);

/* Tensors are numbered by their position in the file. */
QN_API int64_t qn_safetensors_count(const qn_safetensors *st);
QN_API void qn_safetensors_at(const qn_safetensors *st, int64_t index, qn_tensor_info *out);
/* O(log count). false if there is none of that name; out may be NULL. */
QN_API bool qn_safetensors_find(const qn_safetensors *st, const char *name, qn_tensor_info *out);

/* The value of a __metadata__ key, or NULL. */
QN_API const char *qn_safetensors_meta(const qn_safetensors *st, const char *key);
QN_API int64_t qn_safetensors_meta_count(const qn_safetensors *st);
/* Key and value number `index`, in the order of the file. */
QN_API void qn_safetensors_meta_at(const qn_safetensors *st, int64_t index, const char **key, const char **value);

/* Reads one tensor, converting its elements to `as`, into out[tensor->count]; row-major. out NULL: only
 * checks that all values are finite. Several threads may read one file. Errors: E6001, E4016 (not
 * finite: tensor, flat index of the first, how many), E4017 (type that Quern does not have). After an
 * error the contents of out are unspecified. */
QN_API QN_CHECKED qn_status qn_safetensors_read(const qn_safetensors *st, const qn_tensor_info *tensor, void *out,
                                                qn_dtype as, qn_error *err);

/* A tensor to be written; data is row-major and may be NULL if it has no elements. */
typedef struct qn_tensor_data {
    const char *name;
    qn_dtype dtype;
    int rank;
    int64_t dim[QN_MAX_DIMS];
    const void *data;
} qn_tensor_data;

typedef struct qn_meta_entry {
    const char *key, *value;
} qn_meta_entry;

/* Replaces path atomically by a file of n tensors, ordered by alignment, then by name, so that the same
 * tensors give the same bytes in whatever order they come. `__metadata__` gets {"format": "pt"}, which
 * other readers require, and the given entries. Errors: E6002; E4018 (a tensor that the format or this
 * reader would refuse; nothing is written then). */
QN_API QN_CHECKED qn_status qn_safetensors_write(const char *path, const qn_tensor_data *tensors, int64_t n,
                                                 const qn_meta_entry *meta, int64_t n_meta, qn_error *err);

#ifdef __cplusplus
}
#endif
#endif
