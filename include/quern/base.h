/* base.h - what every chapter of Quern shares: status codes, errors, memory hooks, element types.
 *
 * Functions that can fail return a qn_status and, where more can be said, take a `qn_error *err` last.
 * `err` may be NULL. On success it is left alone; on failure it holds one complete sentence.
 *
 *     qn_error err = {0};
 *     if (qn_idx_open(&file, "train-images-idx3-ubyte.gz", &err))
 *         fprintf(stderr, "%s\n", err.text);
 *
 * The library never prints, never exits, never aborts and keeps no global mutable state. */
#ifndef QUERN_BASE_H
#define QUERN_BASE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define QN_API __attribute__((visibility("default")))
#define QN_CHECKED __attribute__((warn_unused_result))

#define QN_VERSION_MAJOR 0
#define QN_VERSION_MINOR 1
#define QN_VERSION_PATCH 0
#define QN_VERSION "0.1.0"

/* The version of the library that is loaded, e.g. "0.1.0". */
QN_API const char *qn_version(void);

/* ---- status ------------------------------------------------------------------------------- */

/* A status is also the exit code of the `quern` command. 1 is never used: it means an uncaught
 * error of the host language. */
#define QN_STATUS_MAP(X) \
    X(OK, 0, "done") \
    X(EUSAGE, 2, "usage, configuration or shape error") \
    X(EDATA, 3, "bad data file") \
    X(EMODEL, 4, "bad model or checkpoint") \
    X(EMEMORY, 5, "not enough memory") \
    X(EIO, 6, "input or output failed") \
    X(EDEVICE, 7, "device, driver or library not usable") \
    X(EPEER, 8, "a peer died, hung or disagreed") \
    X(ENUMERIC, 9, "numerical stop") \
    X(EINTERNAL, 70, "internal error of Quern") \
    X(STOPPED, 75, "stopped on request, state saved")

typedef enum qn_status {
#define X(name, code, text) QN_##name = (code),
    QN_STATUS_MAP(X)
#undef X
} qn_status;

/* The sentence of a status, e.g. "bad data file". Never NULL. */
QN_API const char *qn_status_text(qn_status status);

/* ---- errors ------------------------------------------------------------------------------- */

/* One failure, told once. `text` is the whole line without newline:
 *
 *   error E3021 data: train-images.idx@4: dim[0]: 60000 (47040016 bytes needed); file has 9912422
 *
 * `code` is a row of core/errors.def; its status is qn_error_status(). Foreign text in it is escaped. */
typedef struct qn_error {
    int code;        /* E number; 0: no error                                    */
    int64_t line;    /* 1-based; 0: not applicable                               */
    int64_t column;  /* 1-based; 0: not applicable                               */
    int64_t offset;  /* byte offset in `file`; -1 or 0 with code 0: not applicable */
    char file[256];  /* as the caller named it, escaped; "" if none              */
    char field[128]; /* what in the file, option or tensor; "" if none           */
    char text[401];  /* the sentence                                             */
} qn_error;

/* The status (and exit code) that an error stands for; QN_OK for code 0. */
QN_API qn_status qn_error_status(const qn_error *err);

/* ---- memory ------------------------------------------------------------------------------- */

/* All host memory of the library passes through here when a context is given one.
 * new_size 0 frees. Returned memory is aligned as malloc's. */
typedef struct qn_alloc {
    void *(*realloc)(void *user, void *ptr, size_t old_size, size_t new_size);
    void *user;
} qn_alloc;

/* ---- element types ------------------------------------------------------------------------ */

/* X(name, bytes, safetensors name). bool is one byte, 0 or 1. */
#define QN_DTYPE_MAP(X) \
    X(F32, 4, "F32") \
    X(F64, 8, "F64") \
    X(BF16, 2, "BF16") \
    X(F16, 2, "F16") \
    X(I64, 8, "I64") \
    X(I32, 4, "I32") \
    X(I8, 1, "I8") \
    X(U8, 1, "U8") \
    X(BOOL, 1, "BOOL")

typedef enum qn_dtype {
#define X(name, bytes, text) QN_##name,
    QN_DTYPE_MAP(X)
#undef X
        QN_DTYPE_COUNT
} qn_dtype;

QN_API size_t qn_dtype_size(qn_dtype dtype);      /* bytes of one element                      */
QN_API const char *qn_dtype_name(qn_dtype dtype); /* "F32", ...; the name safetensors uses     */
QN_API bool qn_dtype_is_float(qn_dtype dtype);    /* F32 F64 BF16 F16                          */

/* Converts n elements; float to integer truncates towards zero, anything to bool is x != 0.
 * dst and src must not overlap. bf16 and f16 round to nearest even. */
QN_API void qn_convert(void *dst, qn_dtype to, const void *src, qn_dtype from, size_t n);

enum { QN_MAX_DIMS = 8 };

#ifdef __cplusplus
}
#endif
#endif
