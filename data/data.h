/* data.h - what the files of this room share. Not installed.
 *
 * Every reader has an entry that works on memory (qn__*_parse): the public one opens the file
 * and calls it, the fuzz targets call it directly. `name` stands for the file in messages. */
#ifndef QN_DATA_DATA_H
#define QN_DATA_DATA_H
#include "../core/base.h"
#include "../core/philox.h"
#include "../include/quern/data.h"

/* Largest file that is read whole: far above any data set that fits the default memory limit. */
#define QN_DATA_FILE_MAX ((size_t)1 << 36)
enum { QN_MAX_CLASSES = 1000000 };

/* ---- readers ------------------------------------------------------------------------------ */

/* Allocates out->data for the dtype and dims already in it; dims must be non-negative. */
qn_status qn__array_alloc(qn_array *out, const char *what, qn_error *err);

/* A number of IDX and PNG files. */
static inline uint32_t qn__big32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* First byte of the elements in an IDX file of this rank. */
#define QN_IDX_HEADER(rank) (4 + 4 * (int64_t)(rank))
/* As qn_idx_read; *element gets the bytes of one element in the file. */
qn_status qn__idx_parse(qn_array *out, int *element, const uint8_t *bytes, size_t n, const char *name, qn_error *err);
/* As qn_npy_read; *at gets the offset of the first element. */
qn_status qn__npy_parse(qn_array *out, int64_t *at, const uint8_t *bytes, size_t n, const char *name, qn_error *err);

/* Element type and dims alone (data stays NULL), from the first n bytes of a file: what a plan needs to know.
 * QN_SHAPE_BYTES are enough for any header that is accepted. */
enum { QN_SHAPE_BYTES = (1 << 16) + 16 };
qn_status qn__idx_shape(qn_array *out, const uint8_t *bytes, size_t n, const char *name, qn_error *err);
qn_status qn__npy_shape(qn_array *out, const uint8_t *bytes, size_t n, const char *name, qn_error *err);

struct qn__png_info {
    uint32_t width, height;
    int depth, colour, channels; /* channels: 1 grey, 3 otherwise; alpha not counted */
    bool interlaced;
};
/* Checks signature, order, lengths, checksums and header of every chunk that makes the picture. */
qn_status qn__png_scan(struct qn__png_info *out, const uint8_t *bytes, size_t n, const char *name,
                       const qn_png_options *o, qn_error *err);
qn_status qn__png_parse(qn_array *out, const uint8_t *bytes, size_t n, const char *name, const qn_png_options *o,
                        qn_error *err);
qn_status qn__csv_parse(qn_dataset **out, const char *text, size_t n, const char *name, const qn_csv_options *o,
                        qn_error *err);

/* out[channels,H,W] from in[channels,h,w], bilinear. */
void qn__resize(uint8_t *out, int H, int W, const uint8_t *in, int h, int w, int channels);

/* A gzip stream in memory, inflated piece by piece: never more than the caller asks for. */
struct qn__gzip;
bool qn__gzip_is(const uint8_t *bytes, size_t n);
qn_status qn__gzip_open(struct qn__gzip **out, const uint8_t *bytes, size_t n, const char *name, qn_error *err);
/* Inflates up to n bytes; *got < n only at the end of the stream, whose checksum is then verified. */
qn_status qn__gzip_read(struct qn__gzip *g, void *out, size_t n, size_t *got, qn_error *err);
void qn__gzip_close(struct qn__gzip *g);

/* Rows of a CSV file, one after the other. */
struct qn__csv {
    const char *at, *end, *name; /* at: the start of the next row */
    int64_t line, row_line;      /* of `at`; of the row last read */
    char delimiter;
    struct qn__csv_field {
        size_t text; /* offset in `text` of the NUL-terminated, unquoted field */
        int64_t line, column;
    } * field;
    size_t n, cap_field;
    char *text;
    size_t used, cap_text;
};
/* Skips a byte order mark; refuses UTF-16 and empty files. */
qn_status qn__csv_open(struct qn__csv *c, const char *text, size_t n, const char *name, char delimiter, qn_error *err);
/* *more false at the end of the file. Blank lines are passed over. */
qn_status qn__csv_row(struct qn__csv *c, bool *more, qn_error *err);
void qn__csv_close(struct qn__csv *c);
static inline const char *qn__csv_text(const struct qn__csv *c, size_t i) { return c->text + c->field[i].text; }

/* ---- transformation ----------------------------------------------------------------------- */

bool qn__transform_set_classes(qn_transform *t, int n, const char *const *names);
/* Channels' mean 0 and std 1. */
bool qn__transform_set_channels(qn_transform *t, int channels);
char *qn__strdup(const char *s, size_t n);
/* One raw row (numbers, NaN missing; categories as index) to floats. */
void qn__transform_values(const qn_transform *t, const double *raw, float *x);
/* Text of one field to its raw value. */
struct qn__field_policy {
    const char *name;     /* file                              */
    int64_t line, column; /* where the field starts, in bytes  */
    bool missing_ok, nonfinite_is_missing;
};
qn_status qn__parse_field(double *out, const qn_column *c, const char *text, const struct qn__field_policy *p,
                          qn_error *err);

/* ---- data set ----------------------------------------------------------------------------- */

enum qn__store { QN_STORE_U8, QN_STORE_F32, QN_STORE_TABLE, QN_STORE_FILES };

struct qn__bad {
    int64_t sample;
    qn_error err;
};

struct qn_dataset {
    int refs; /* atomic */
    enum qn__store store;
    qn_transform t;
    int64_t n, size;     /* samples; stored elements per sample                        */
    uint8_t *u8;         /* [n,size]; of files: the decoded pictures, or NULL: not kept */
    float *f32;          /* [n,size]                                                   */
    double *raw;         /* [n,size] of a table                                        */
    int32_t *label;      /* [n] or NULL                                                */
    float *target;       /* [n,n_targets] or NULL                                      */
    char *name;          /* file or directory, for messages                            */
    int64_t *line;       /* [n] of a table                                             */
    char **path;         /* [n] of files: path below the directory                     */
    unsigned char *kept; /* [n] of files: 0 not yet, 1 being written, 2 in u8; atomic        */
    int64_t ignored;
    struct {
        bool standardise;
        qn_missing missing;
        qn_clip clip;
        double limit;
    } fit; /* of a table */
    size_t bytes;
    qn_on_bad on_bad;
    int64_t max_bad;
    qn_png_options png;
    struct qn__bad *bad; /* [n_bad], ordered as met; written only by the loader's consumer */
    size_t n_bad, cap_bad;
    /* For tests: called before sample i is read, on the reading thread. */
    void (*before_read)(void *user, int64_t i);
    void *before_user;
};

qn_dataset *qn__dataset_new(const char *name);
void qn__dataset_hold(qn_dataset *ds);
/* Records a skipped sample (once) and fails with E3052 beyond max_bad. */
qn_status qn__dataset_skip(qn_dataset *ds, int64_t i, const qn_error *why, qn_error *err);
bool qn__dataset_is_bad(const qn_dataset *ds, int64_t i);
qn_status qn__check_class_options(const qn_dataset_options *o, qn_error *err);
/* Stores labels or targets from an array; label_at: offset in `file` of the first element,
 * stride bytes apart, or -1. */
qn_status qn__dataset_set_labels(qn_dataset *ds, const qn_array *labels, const char *file, int64_t label_at, int stride,
                                 const qn_dataset_options *o, qn_error *err);
/* Raw sample into floats in unit range, not normalised; scratch: size bytes. */
qn_status qn__dataset_raw(qn_dataset *ds, int64_t i, float *x, uint8_t *scratch, qn_error *err);
/* u8 [C,H,W] of a picture in a folder. */
qn_status qn__folder_decode(qn_dataset *ds, int64_t i, uint8_t *out, qn_error *err);
/* Statistics of a table's number columns over the rows at[0..n). */
qn_status qn__table_fit(qn_dataset *ds, const int64_t *at, int64_t n, qn_error *err);
/* x = (x - mean) / std per channel, in place. */
void qn__normalise(const qn_transform *t, float *x);

/* ---- order and augmentation --------------------------------------------------------------- */

/* Place of `i` in the permutation of [0, n) that belongs to key; i in [0, n). */
int64_t qn__permute(uint64_t key, int64_t i, int64_t n);

/* Changes x[C,H,W] (unit range) in place; scratch: as large as x. */
void qn__augment(const qn_augment *a, uint64_t key, int64_t epoch, int64_t sample, float *x, float *scratch,
                 const int64_t dim[3]);
bool qn__augment_any(const qn_augment *a);
/* Beta(alpha, alpha). */
float qn__mixup_lambda(double alpha, uint64_t key, int64_t epoch, int64_t position);
#endif
