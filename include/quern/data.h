/* data.h - from files to batches: readers, data sets, splits, augmentation and the prefetching
 * loader.
 *
 * The way through this chapter is a straight line:
 *
 *     files --> qn_dataset --> qn_indices --> qn_loader --> qn_batch
 *               n samples      train/valid    threads       floats ready for the network
 *
 * Letters in shape comments: N samples, B batch, C channels, H height, W width, F features, T
 * targets, K classes. Images are [C,H,W], channel first; everything is in C order.
 *
 * A complete program, compiled by the tests:
 *
 *     #include <quern/data.h>
 *     #include <stdio.h>
 *
 *     int main(int argc, char **argv)
 *     {
 *         qn_error err = { 0 };
 *         qn_dataset *data = NULL;
 *         qn_indices train = { 0 }, valid = { 0 };
 *         qn_loader *loader = NULL;
 *         const qn_batch *batch = NULL;
 *         const qn_loader_options options = { .batch = 128, .shuffle = true, .seed = 7,
 *                                             .threads = 2, .augment = { .flip = 0.5 } };
 *         qn_status status = argc == 3 ? qn_dataset_from_idx(&data, argv[1], argv[2], NULL, &err)
 *                                      : qn_dataset_digits(&data, 1000, 7, &err);
 *         if (!status) status = qn_split_fraction(&train, &valid, data, NULL, 0.2, 7, true, &err);
 *         if (!status) status = qn_dataset_fit(data, &train, &err);
 *         if (!status)
 *             status = qn_loader_open(&loader, data, &train, &options, &err);
 *         while (!status && !(status = qn_loader_next(loader, &batch, &err)) && batch)
 *             printf("samples %lld..%lld, first label %d\n", (long long)batch->first,
 *                    (long long)batch->first + batch->count - 1, batch->label[0]);
 *         if (status) fprintf(stderr, "%s\n", err.text);
 *         qn_loader_free(loader);
 *         qn_indices_free(&train);
 *         qn_indices_free(&valid);
 *         qn_dataset_free(data);
 *         return status;
 *     }
 *
 * Files are read as hostile: every size is checked against the file before memory is taken, and
 * an error names file, byte offset or line and column, field, what was found and what was
 * expected. Nothing here depends on the locale. */
#ifndef QUERN_DATA_H
#define QUERN_DATA_H
#include "base.h"
#ifdef __cplusplus
extern "C" {
#endif

/* ---- arrays and their files --------------------------------------------------------------- */

/* A dense array in C order. Functions that fill one own nothing afterwards: release it with
 * qn_array_free. A zeroed one is empty and safe to free. */
typedef struct qn_array {
    qn_dtype dtype;
    int rank;
    int64_t dim[QN_MAX_DIMS];
    void *data;
    size_t bytes;
} qn_array;

QN_API void qn_array_free(qn_array *array);

/* Reads an IDX file, plain or gzip (told apart by content, not by name): the format of MNIST,
 * big-endian, rank 1..4, described at the end of LeCun, Cortes, Burges, "The MNIST database".
 * Type codes 0x08 u8, 0x0C i32, 0x0D f32, 0x0E f64; 0x09 i8 and 0x0B i16 become I32. A gzip file
 * is inflated to the size its own header announces and not a byte further. Errors: E3002, E3021,
 * E5002, E6001. */
QN_API QN_CHECKED qn_status qn_idx_read(qn_array *out, const char *path, qn_error *err);

/* Reads and writes NumPy's .npy (NEP 1): versions 1.0 and 2.0, little-endian, f8 f4 f2 u1 i4 i8 b1, up to 8
 * dimensions; it has no bf16. Arrays in Fortran order are read into C order, the only one that is written. Pickled
 * objects and big-endian data are refused. The writer replaces `path` atomically. Errors: E3061, E3062, E5002, E6001,
 * E6002. */
QN_API QN_CHECKED qn_status qn_npy_read(qn_array *out, const char *path, qn_error *err);
QN_API QN_CHECKED qn_status qn_npy_write(const char *path, const qn_array *array, qn_error *err);

/* How a PNG becomes pixels. Zero means: as in the file, or the default named here. */
typedef struct qn_png_options {
    /* 1 or 3. Colour to grey is (299 R + 587 G + 114 B) / 1000; alpha is dropped. */
    int channels;
    /* Both or none: bilinear resize, pixel centres at half integers, no antialiasing. */
    int height, width;
    /* Widest and highest file that is accepted; 16384. */
    int max_side;
} qn_png_options;

/* Reads a PNG of any colour type, depth and interlacing into U8 [C,H,W]. 16-bit samples are
 * rounded to 8; without a wish for channels, grey files give 1 and others 3. Only the chunks
 * that make the picture are looked at (IHDR PLTE IDAT IEND; of an APNG, its still picture);
 * gamma and profiles are not applied. Errors: E3011..E3013, E5002, E6001. */
QN_API QN_CHECKED qn_status qn_png_read(qn_array *out, const char *path, const qn_png_options *options, qn_error *err);

/* Writes 8-bit pixels [height,width,channels] (interleaved, as a screen has them), channels 1
 * grey or 3 RGB, replacing `path` atomically. Errors: E3053 (sizes), E5002, E6002. */
QN_API QN_CHECKED qn_status qn_png_write(const char *path, const uint8_t *pixels, int width, int height, int channels,
                                         qn_error *err);

/* ---- the recorded transformation ---------------------------------------------------------- */

/* One feature column of a table. A number goes through: missing -> fill, clip to [low, high],
 * (x - mean) / std. A category becomes n_values inputs, one of them 1. */
typedef struct qn_column {
    char *name;    /* header text; "column 3" without a header */
    int64_t index; /* 0-based position in a row of the file    */
    bool category;
    bool may_miss; /* a missing number takes `fill` instead of being an error */
    double fill, low, high, mean, std;
    char **value; /* categories, sorted by bytes */
    int n_values;
} qn_column;

/* Everything learnt from the training data that `predict` must apply to one row or picture
 * later. Images: x = (pixel / 255 - mean[c]) / std[c]; float arrays: x = (value - mean[c]) /
 * std[c], where a rank-1 sample [F] is one channel. Tables: see qn_column. It belongs to its
 * data set; copies are the caller's. */
typedef struct qn_transform {
    int rank; /* of one sample: 1 [F] or 3 [C,H,W]   */
    int64_t dim[3];
    bool bytes;   /* samples are stored as u8, 255 is 1.0 */
    int channels; /* length of mean and std; 0 for tables */
    double *mean, *std;
    int n_columns; /* tables only                          */
    qn_column *column;
    char delimiter;   /* tables only                          */
    int64_t n_fields; /* tables only: in a row of the training file; 0: not known */
    int n_targets;    /* regression targets per sample; 0: class labels or none */
    int n_classes;
    char **class_name;
} qn_transform;

QN_API QN_CHECKED qn_status qn_transform_copy(qn_transform *out, const qn_transform *t, qn_error *err);
QN_API void qn_transform_free(qn_transform *t);

/* As one line of JSON, for a checkpoint, and back. The text is released with free(). Errors:
 * E3003, E5002. */
QN_API QN_CHECKED qn_status qn_transform_to_json(char **out, const qn_transform *t, qn_error *err);
QN_API QN_CHECKED qn_status qn_transform_from_json(qn_transform *out, const char *json, qn_error *err);

/* Inputs of the network per sample: the product of dim. */
QN_API int64_t qn_transform_size(const qn_transform *t);

/* A picture U8 [C,H,W] of exactly the transform's shape (use qn_png_options to get there) to floats
 * x[C,H,W]. E3014. */
QN_API QN_CHECKED qn_status qn_transform_image(const qn_transform *t, const qn_array *image, float *x, qn_error *err);

/* Where feature column c stands in a row that has nothing but the features, in the order of the training file. */
QN_API int qn_transform_place(const qn_transform *t, int c);

/* One CSV line to floats x[F]. The line holds either every column of the training file up to the last feature, or
 * nothing but the features, in the order of the training file. `where` names the source in messages. E3031..E3036. */
QN_API QN_CHECKED qn_status qn_transform_row(const qn_transform *t, const char *line, const char *where, float *x,
                                             qn_error *err);

/* ---- data sets ---------------------------------------------------------------------------- */

typedef struct qn_dataset qn_dataset;

/* A list of sample numbers: a split. Release with qn_indices_free. A zeroed one is empty. */
typedef struct qn_indices {
    int64_t *at;
    int64_t n;
} qn_indices;

/* What to do with a sample that cannot be read or has a label out of range. Skipping is never
 * silent: see qn_dataset_bad. A skipped sample keeps its place in the order, so batches may hold
 * fewer samples. */
typedef enum qn_on_bad { QN_BAD_STOP, QN_BAD_SKIP } qn_on_bad;

typedef struct qn_dataset_options {
    int n_classes; /* 0: largest label + 1, or the number of folders */
    /* n_classes names, or NULL: "0", "1", ... or the folders' names. */
    const char *const *class_names;
    qn_on_bad on_bad;
    int64_t max_bad; /* with QN_BAD_SKIP: more bad samples than this stop after all; 0: 100 */
    /* Folders: wished channels and size. What is not wished is as in the first file. */
    qn_png_options png;
    /* Bytes this data set may hold; 0: 4 GiB. Folders above it are decoded anew in every epoch
     * instead of being kept. */
    size_t memory_limit;
    /* This label (0 or more) stands for samples without a class, which a loss with the same ignore
     * index and measures leave out. It may lie beyond n_classes, and does not count as a class. */
    bool has_ignore;
    int32_t ignore_label;
} qn_dataset_options;

/* IDX images (u8 or float, rank 2 [N,F], 3 [N,H,W] or 4 [N,C,H,W]) and labels (integers, rank 1;
 * or floats, rank 1 or 2, as targets). labels may be NULL. Errors: E3002, E3021..E3023, E3041,
 * E3043, E3052, E3054. */
QN_API QN_CHECKED qn_status qn_dataset_from_idx(qn_dataset **out, const char *samples, const char *labels,
                                                const qn_dataset_options *options, qn_error *err);
/* The same from .npy files. */
QN_API QN_CHECKED qn_status qn_dataset_from_npy(qn_dataset **out, const char *samples, const char *labels,
                                                const qn_dataset_options *options, qn_error *err);
/* The same from arrays in memory, which are copied. `name` stands for the file in messages. */
QN_API QN_CHECKED qn_status qn_dataset_from_arrays(qn_dataset **out, const qn_array *samples, const qn_array *labels,
                                                   const char *name, const qn_dataset_options *options, qn_error *err);

/* dir/CLASS/NAME.png. Classes are the subdirectories in byte order, samples the .png files in
 * byte order within their class; names that begin with a dot are left out, other files are
 * counted (qn_dataset_ignored). Files are decoded by the loader's threads. Errors: E3011..E3015,
 * E6001. */
QN_API QN_CHECKED qn_status qn_dataset_from_folder(qn_dataset **out, const char *dir, const qn_dataset_options *options,
                                                   qn_error *err);

/* What to do with an empty field or NA, N/A, null, ? in a number column. */
#define QN_MISSING_MAP(X) \
    X(ERROR, "error") \
    X(DROP, "drop") \
    X(MEAN, "mean") \
    X(MEDIAN, "median")
typedef enum qn_missing {
#define X(e, s) QN_MISSING_##e,
    QN_MISSING_MAP(X)
#undef X
        QN_MISSING_COUNT
} qn_missing;

/* Outliers of a number column are moved to the nearest bound: mean +- limit * std, or
 * [Q1 - limit * IQR, Q3 + limit * IQR] with quartiles by linear interpolation (Tukey's fences). */
typedef enum qn_clip { QN_CLIP_NONE, QN_CLIP_ZSCORE, QN_CLIP_IQR } qn_clip;

/* Columns are given by header name, or by 0-based index as "#3" (without a header also "3"). */
typedef struct qn_csv_options {
    char delimiter; /* 0: ',' */
    bool no_header;
    /* Feature columns. If both lists are empty, every column that is not a label or target is a
     * number. */
    const char *const *numeric;
    int n_numeric;
    const char *const *categorical;
    int n_categorical;
    /* Class column: any text; classes are sorted by bytes, or as numbers if all are integers. With
     * n_classes: integers 0..n_classes-1, or, with class_names (n_classes of them), also a name. */
    const char *label;
    int n_classes;
    const char *const *class_names;
    /* Number columns to predict, as they stand. */
    const char *const *target;
    int n_target;
    bool standardise; /* number features to mean 0, standard deviation 1 (of the fit) */
    qn_missing missing;
    bool nonfinite_is_missing; /* nan and inf count as missing; else they are errors */
    qn_clip clip;
    double clip_limit; /* 0: 3 for z-scores, 1.5 for IQR */
    /* Apply this, of the training file, instead of fitting. */
    const qn_transform *transform;
    qn_on_bad on_bad; /* QN_BAD_SKIP: rows that cannot be used are left out and listed */
    int64_t max_bad;  /* 0: 100 */
} qn_csv_options;

/* A table in RFC 4180's form: quotes, doubled quotes, CRLF or LF, an optional UTF-8 byte order
 * mark; a line of at most 1 MiB. Rows must all have as many fields as the first. With label and
 * target absent there are only features. Errors: E3001, E3031..E3036, E3041, E3042, E3052,
 * E3054. */
QN_API QN_CHECKED qn_status qn_dataset_from_csv(qn_dataset **out, const char *path, const qn_csv_options *options,
                                                qn_error *err);

/* n drawn digits, 28x28 grey, ten classes in turn: the stand-in where no real images are
 * installed. Each digit is a list of strokes on a unit square (data/digits.c), put through a
 * random affine map (rotation up to 15 degrees, scale 0.8..1.15, shear 0.2, shift 2.5 pixels),
 * drawn with a pen of random width and dimmed by random noise. A sample depends on (seed, its
 * index) only, so a larger set begins with the smaller one. */
QN_API QN_CHECKED qn_status qn_dataset_digits(qn_dataset **out, int64_t n, uint64_t seed, qn_error *err);

/* Loaders keep their data set alive; freeing it first is fine. */
QN_API void qn_dataset_free(qn_dataset *ds);

QN_API int64_t qn_dataset_count(const qn_dataset *ds);
QN_API int64_t qn_dataset_ignored(const qn_dataset *ds); /* files of a folder that are not .png */
QN_API size_t qn_dataset_bytes(const qn_dataset *ds);    /* memory held for samples and labels  */

/* Shape, class names and statistics; valid until the next fit or set_transform, or free. */
QN_API const qn_transform *qn_dataset_transform(const qn_dataset *ds);

/* Class of sample i, or -1 (no labels, or skipped as bad). i must be in range. */
QN_API int32_t qn_dataset_label(const qn_dataset *ds, int64_t i);
/* Targets [T] of sample i, or NULL. */
QN_API const float *qn_dataset_target(const qn_dataset *ds, int64_t i);
/* What messages call sample i: its file, or "FILE, sample I", or "FILE, line L"; written to buf,
 * returned. */
QN_API const char *qn_dataset_sample_name(const qn_dataset *ds, int64_t i, char *buf, size_t size);

/* Learns the statistics from the given samples (NULL: all): mean and std per channel of images
 * and float arrays; fill values, clipping bounds, mean and std of table columns. Fit on the
 * training split only, so that nothing leaks from the validation split. Not while a loader is
 * open on ds. A channel that never varies gets std 1. */
QN_API QN_CHECKED qn_status qn_dataset_fit(qn_dataset *ds, const qn_indices *over, qn_error *err);

/* Takes over the statistics of another data set's transformation, e.g. the training set's for
 * the test set. Shapes and columns must agree. E3003. */
QN_API QN_CHECKED qn_status qn_dataset_set_transform(qn_dataset *ds, const qn_transform *t, qn_error *err);

/* Sample i as the network sees it without augmentation: x of qn_transform_size floats. */
QN_API QN_CHECKED qn_status qn_dataset_read(qn_dataset *ds, int64_t i, float *x, qn_error *err);

/* Reads every sample; calls report for each one that is bad (it may be NULL), and returns how
 * many are. */
typedef void qn_bad_report(void *user, int64_t sample, const qn_error *err);
QN_API int64_t qn_dataset_check(qn_dataset *ds, qn_bad_report *report, void *user);

/* Samples skipped so far under QN_BAD_SKIP, in the order in which they were met. i in [0,
 * count). A row of a CSV file that was left out has no sample number: *sample is minus its line. */
QN_API int64_t qn_dataset_bad_count(const qn_dataset *ds);
QN_API const qn_error *qn_dataset_bad(const qn_dataset *ds, int64_t i, int64_t *sample);

/* ---- splits ------------------------------------------------------------------------------- */

QN_API void qn_indices_free(qn_indices *indices);

/* Splits `from` (NULL: every sample) in two: `second` gets round(fraction * n) samples, `first`
 * the rest, both in ascending order. Which ones is a function of seed alone. Stratified: each
 * class is divided in the same proportion, to within one sample. Use it twice for train,
 * validation and test. fraction is in (0, 1); neither side may be empty. E2301, E3054, E5002. */
QN_API QN_CHECKED qn_status qn_split_fraction(qn_indices *first, qn_indices *second, const qn_dataset *ds,
                                              const qn_indices *from, double fraction, uint64_t seed, bool stratified,
                                              qn_error *err);

/* Fold `fold` (0-based) of k: `valid` gets that fold, `train` the other k - 1. The k folds of
 * one seed are disjoint, cover everything, and differ in size by at most one. 2 <= k <= n. */
QN_API QN_CHECKED qn_status qn_split_fold(qn_indices *train, qn_indices *valid, const qn_dataset *ds,
                                          const qn_indices *from, int k, int fold, uint64_t seed, bool stratified,
                                          qn_error *err);

/* ---- augmentation ------------------------------------------------------------------------- */

/* Random changes to training images; all zero means none. Each value is drawn anew for every
 * sample and epoch by Philox from (seed, epoch, sample), never from a thread's state. Geometry
 * (flip, scale, rotation, crop, in this order, about the centre) is one bilinear resampling, or
 * a plain copy where only flip and crop are asked for; what lies outside the image is 0.
 * Brightness, contrast and erasing follow, in units where white is 1, then the normalisation of
 * the data set. Only samples [C,H,W] can be augmented, except by mixup. */
typedef struct qn_augment {
    double flip;   /* probability of a horizontal flip, 0..1 */
    double rotate; /* angle uniform in [-rotate, rotate] degrees, 0..180; 15 is customary */
    double scale;  /* size factor uniform in [1 - scale, 1 + scale], 0..0.9 */
    int crop;      /* pad by this many zero pixels and cut out H x W at random, 0..H,W - 1 */
    /* b added to every pixel, b uniform in [-brightness, brightness], 0..1. */
    double brightness;
    /* (x - mean of the image) * f + mean, f uniform in [1 - contrast, 1 + contrast], 0..1. */
    double contrast;
    double erase; /* probability of a rectangle of zeros, 0..1 */
    /* Its share of the image is uniform in [0.02, erase_area]; 0: 0.33. */
    double erase_area;
    double mixup; /* alpha of Beta(alpha, alpha); Zhang et al., "mixup", ICLR 2018; 0: off */
} qn_augment;

/* ---- the loader --------------------------------------------------------------------------- */

typedef struct qn_loader qn_loader;

typedef struct qn_loader_options {
    int batch; /* B, 1 or more */
    /* A new permutation each epoch, a function of (seed, epoch); else the order of the list. */
    bool shuffle;
    bool drop_last; /* leave out a last batch of fewer than B */
    uint64_t seed;
    int threads;    /* 0: batches are made in qn_loader_next itself; at most 256. Fewer if fewer may be
                       started: same batches, only later                               */
    int depth;      /* batches prepared ahead; 0: threads + 2 */
    double timeout; /* seconds without a batch after which the file at fault is named; 0: 60 */
    qn_augment augment;
} qn_loader_options;

/* One batch. It stays valid, and its contents unchanged, until the next call of qn_loader_next,
 * qn_loader_seek or qn_loader_free. */
typedef struct qn_batch {
    const float *x;       /* [count,C,H,W] or [count,F] */
    const int32_t *label; /* [count], or NULL without class labels */
    /* [count,T]; with mixup and classes [count,K], each row summing to 1; or NULL. */
    const float *target;
    const int64_t *sample; /* [count] sample numbers in the data set */
    int count;             /* B, less in the last batch or where bad samples were skipped; at least 1 */
    int64_t epoch;         /* 0-based */
    int64_t first;         /* position of the batch's first sample in this epoch's order */
} qn_batch;

/* Where a loader stands: the next sample to be handed out. A checkpoint that holds it, and the
 * same data, split and options, continues with the very same batches; the number of threads may
 * differ. */
typedef struct qn_loader_state {
    int64_t epoch;
    int64_t position; /* samples of the epoch already handed out */
} qn_loader_state;

/* Opens a loader over `over` (copied; NULL: every sample), at the start of epoch 0. All memory
 * and threads are taken here: making a batch allocates nothing (libpng does, for a folder's file
 * that is not kept in memory). A child process after a fork must open its own: E3051. Errors: E2301,
 * E3053, E3054, E5002. */
QN_API QN_CHECKED qn_status qn_loader_open(qn_loader **out, qn_dataset *ds, const qn_indices *over,
                                           const qn_loader_options *options, qn_error *err);
QN_API void qn_loader_free(qn_loader *loader);

/* The next batch, or NULL in *out once at the end of each epoch; the call after that begins the
 * next one. The same order, pixels and labels for any number of threads. An error met by a
 * thread comes out here once, in the place of its batch, and names the sample and its file; the
 * call after that goes on behind it. Not from two threads at once. */
QN_API QN_CHECKED qn_status qn_loader_next(qn_loader *loader, const qn_batch **out, qn_error *err);

QN_API int qn_loader_threads(const qn_loader *loader);     /* that have been started */
QN_API int64_t qn_loader_batches(const qn_loader *loader); /* per epoch */
QN_API int64_t qn_loader_samples(const qn_loader *loader); /* per epoch, without a dropped tail */
QN_API qn_loader_state qn_loader_tell(const qn_loader *loader);
/* position must be one that tell can give: a multiple of B, or the epoch's number of samples.
 * E3053. */
QN_API QN_CHECKED qn_status qn_loader_seek(qn_loader *loader, qn_loader_state state, qn_error *err);

#ifdef __cplusplus
}
#endif
#endif
