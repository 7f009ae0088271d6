/* safetensors.h - what the checkpoint shares with the safetensors reader and writer. Not installed. */
#ifndef QN_CORE_SAFETENSORS_H
#define QN_CORE_SAFETENSORS_H
#include "file.h"
#include "../include/quern/safetensors.h"

/* As qn_safetensors_open, of a file that is already open; takes it over, also on failure. */
qn_status qn__safetensors_open_file(qn_safetensors **out, struct qn__file *file, const char *path,
                                    const qn_safetensors_opts *opts, qn_error *err);

/* n bytes of the file at offset, which must lie inside it. */
qn_status qn__safetensors_bytes(const qn_safetensors *st, int64_t offset, void *out, size_t n, qn_error *err);
/* For messages. */
const char *qn__safetensors_path(const qn_safetensors *st);

/* For qsort_r: indices (uint32_t) into the qn_tensor_data at `user`, by name. */
int qn__tensor_by_name(const void *a, const void *b, void *user);

/* The bytes of a file to be: header text and order of the tensors. */
struct qn__safetensors_plan {
    char *header; /* 8 bytes of length, then the text */
    size_t header_bytes, header_cap;
    uint32_t *order;  /* tensor index by position */
    int64_t n, bytes; /* tensors; size of the whole file */
};
qn_status qn__safetensors_plan(struct qn__safetensors_plan *out, const char *path, const qn_tensor_data *tensors,
                               int64_t n, const qn_meta_entry *meta, int64_t n_meta, qn_error *err);
void qn__safetensors_plan_free(struct qn__safetensors_plan *plan);

/* Writes a planned file. crc (NULL, or one per tensor in the caller's order) gets the CRC-32 of each
 * tensor's bytes, *file_crc that of the whole file. */
qn_status qn__safetensors_emit(struct qn__file_out *f, const struct qn__safetensors_plan *plan,
                               const qn_tensor_data *tensors, uint32_t *crc, uint32_t *file_crc, qn_error *err);
#endif
