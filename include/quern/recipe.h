/* recipe.h - what to train, on what data and how: JSON with `//` comments, checked against one schema.
 *
 *     qn_recipe *r;
 *     qn_recipe_errors errs;
 *     if (qn_recipe_load(&r, "recipes/mlp-784-128.json", (const char *[]){ "epochs=3" }, 1, &errs))
 *         for (int i = 0; i < errs.kept; i++) fprintf(stderr, "%s\n", errs.list[i].text);
 *     ...
 *     qn_recipe_free(r);
 *
 * The loaded struct is resolved: variables are substituted, defaults filled in, repeats and blocks are
 * written out as a flat list of layers. Which fields mean something depends on the kind beside them;
 * `quern schema` lists every key with type, range, default and meaning (docs/recipes.md). */
#ifndef QUERN_RECIPE_H
#define QUERN_RECIPE_H
#include "data.h"  /* qn_missing                                                  */
#include "optim.h" /* qn_optimizer_kind, qn_optimizer_group, qn_schedule_kind        */
#ifdef __cplusplus
extern "C" {
#endif

enum {
    QN_RECIPE_FORMAT = 1,      /* the "quern" key                                  */
    QN_RECIPE_BYTES = 1 << 20, /* a recipe file may be this long                   */
    QN_RECIPE_VALUES = 100000, /* ... have this many JSON values                   */
    QN_RECIPE_DEPTH = 64,      /* ... nested this deep                             */
    QN_RECIPE_LAYERS = 4096,   /* ... and describe this many layers, written out   */
    QN_RECIPE_ERRORS = 20      /* mistakes kept of one run                         */
};

/* Lists; v has n elements and belongs to the recipe. */
typedef struct qn_texts {
    int32_t n;
    const char **v;
} qn_texts;
typedef struct qn_reals {
    int32_t n;
    double *v;
} qn_reals;
typedef struct qn_ints {
    int32_t n;
    int64_t *v;
} qn_ints;

/* ---- data --------------------------------------------------------------------------------- */

/* X(enum, key). NAMED is IDX files under their usual names in `dir`. */
#define QN_SOURCE_MAP(X) \
    X(NAMED, "name") \
    X(IDX, "idx") \
    X(PNG, "png") \
    X(CSV, "csv") \
    X(NPY, "npy") \
    X(DIGITS, "digits")
typedef enum qn_source {
#define X(e, s) QN_SOURCE_##e,
    QN_SOURCE_MAP(X)
#undef X
        QN_SOURCE_COUNT
} qn_source;

#define QN_NORMALIZE_MAP(X) \
    X(NONE, "none") \
    X(SCALE, "scale") \
    X(STANDARD, "standard") \
    X(FIXED, "fixed")
typedef enum qn_normalize {
#define X(e, s) QN_NORMALIZE_##e,
    QN_NORMALIZE_MAP(X)
#undef X
        QN_NORMALIZE_COUNT
} qn_normalize;

/* Four files, each with its directory put in front; NULL if not given. NPY uses the same four. */
typedef struct qn_recipe_files {
    bool on;
    const char *images, *labels, *test_images, *test_labels;
} qn_recipe_files;

typedef struct qn_recipe_normalize {
    qn_normalize kind;  /* SCALE: bytes to 0..1; STANDARD: by mean and deviation of the training part */
    qn_reals mean, std; /* FIXED: per channel or column, after scaling bytes to 0..1                  */
} qn_recipe_normalize;

typedef struct qn_recipe_data {
    qn_source source;
    const char *name;      /* NAMED: "fashion-mnist", "mnist"                                     */
    const char *dir;       /* NAMED: where the files are; IDX, NPY: put in front of the files     */
    qn_recipe_files idx;   /* IDX and NAMED: paths to open, dir included (".gz" is tried as well) */
    qn_recipe_files npy;   /* NPY: paths to open, dir included                                    */
    const char *png;       /* PNG: a folder with one folder of images per class                   */
    const char *csv;       /* CSV: the table                                                      */
    const char *test;      /* PNG, CSV: the test part, NULL if none                               */
    int64_t digits;        /* DIGITS: how many images to draw                                     */
    const char *label;     /* CSV: column of the label                                            */
    bool regression;       /* CSV, NPY: labels are numbers, not classes                           */
    qn_texts columns;      /* CSV: columns to use, in this order; n 0: all but the label          */
    qn_texts categorical;  /* CSV: columns to encode one-hot                                      */
    const char *delimiter; /* CSV: one character                                                */
    bool header;           /* CSV: the first row has the names; else they are "0", "1", ...     */
    qn_missing missing;    /* CSV: what to do with an empty field                               */
    double clip_outliers;  /* CSV: limit to so many deviations from the mean; 0: off            */
    qn_texts classes;      /* names of the classes, n 0 if not known here                       */
    double validation;     /* fraction of the training part                                     */
    double test_fraction;  /* PNG, CSV, NPY, DIGITS without own test part                       */
    bool stratified;       /* splits keep the class shares                                      */
    int64_t folds, fold;   /* k-fold cross-validation: k (0: off) and which one is held out     */
    int64_t limit;         /* use only so many training samples; 0: all                         */
    bool shuffle;          /* another order each epoch                                          */
    int64_t workers;       /* loader threads                                                    */
    qn_recipe_normalize normalize;
} qn_recipe_data;

typedef struct qn_recipe_augment {
    bool on;
    double flip;       /* probability of a left-right flip                      */
    double rotate;     /* up to so many degrees either way, 0..15               */
    int64_t crop;      /* shift: pad by so many pixels and cut out at random    */
    double scale;      /* zoom by 1 +- scale                                    */
    double brightness; /* add up to +- this, pixels being 0..1                  */
    double contrast;   /* multiply by 1 +- this                                 */
    double erase;      /* probability of blanking a rectangle                   */
    double erase_size; /* its largest share of the image's area                 */
    double mixup;      /* alpha of Beta(alpha, alpha); 0: off                   */
    bool test_flip;    /* evaluation averages the scores of image and mirror image */
} qn_recipe_augment;

/* ---- model -------------------------------------------------------------------------------- */

/* X(enum, key). The name in a recipe is the key. */
#define QN_LAYER_MAP(X) \
    X(CONV, "conv") \
    X(CONV_TRANSPOSE, "conv_transpose") \
    X(LINEAR, "linear") \
    X(MAX_POOL, "max_pool") \
    X(AVG_POOL, "avg_pool") \
    X(GLOBAL_AVG_POOL, "global_avg_pool") \
    X(GLOBAL_MAX_POOL, "global_max_pool") \
    X(BATCH_NORM, "batch_norm") \
    X(DROPOUT, "dropout") \
    X(RELU, "relu") \
    X(LEAKY_RELU, "leaky_relu") \
    X(ELU, "elu") \
    X(GELU, "gelu") \
    X(SILU, "silu") \
    X(SIGMOID, "sigmoid") \
    X(TANH, "tanh") \
    X(SOFTPLUS, "softplus") \
    X(SOFTMAX, "softmax") \
    X(FLATTEN, "flatten") \
    X(RESHAPE, "reshape") \
    X(ADD, "add") \
    X(CONCAT, "concat")
typedef enum qn_layer_kind {
#define X(e, s) QN_LAYER_##e,
    QN_LAYER_MAP(X)
#undef X
        QN_LAYER_COUNT
} qn_layer_kind;

#define QN_INIT_MAP(X) \
    X(HE, "he") \
    X(HE_UNIFORM, "he_uniform") \
    X(XAVIER, "xavier") \
    X(XAVIER_UNIFORM, "xavier_uniform") \
    X(TRUNCATED_NORMAL, "truncated_normal") \
    X(NORMAL, "normal") \
    X(ZEROS, "zeros")
typedef enum qn_recipe_init {
#define X(e, s) QN_RECIPE_INIT_##e,
    QN_INIT_MAP(X)
#undef X
        QN_RECIPE_INIT_COUNT
} qn_recipe_init;

#define QN_GELU_MAP(X) \
    X(ERF, "erf") \
    X(TANH, "tanh")
typedef enum qn_gelu_form {
#define X(e, s) QN_GELU_##e,
    QN_GELU_MAP(X)
#undef X
        QN_GELU_COUNT
} qn_gelu_form;

enum { QN_INPUT = -1, QN_PADDING_SAME = -1 };

/* One layer. Pairs are {height, width}. `input` holds indices of earlier layers of the list, or
 * QN_INPUT; every kind takes one, but ADD and CONCAT, which take two or more. */
typedef struct qn_layer {
    qn_layer_kind kind;
    const char *name; /* unique; scopes are joined with '.': "block.0.conv1"          */
    int32_t n_input;
    int32_t *input;
    int64_t channels;          /* CONV, CONV_TRANSPOSE, LINEAR: of the output                  */
    int64_t kernel[2];         /* CONV, CONV_TRANSPOSE, pools                                  */
    int64_t stride[2];         /* ditto; pools: the kernel unless given                        */
    int64_t padding[2];        /* ditto; both QN_PADDING_SAME for "same"                       */
    int64_t dilation[2];       /* CONV, CONV_TRANSPOSE                                         */
    int64_t output_padding[2]; /* CONV_TRANSPOSE                                         */
    int64_t groups;            /* CONV, CONV_TRANSPOSE                                         */
    bool bias;                 /* CONV, CONV_TRANSPOSE, LINEAR                                 */
    qn_recipe_init init;       /* ditto: of the weights; biases start at 0                     */
    double init_std;           /* deviation of TRUNCATED_NORMAL and NORMAL                     */
    double rate;               /* DROPOUT: probability of zero                                 */
    double alpha;              /* LEAKY_RELU: slope below 0; ELU: limit for -infinity          */
    qn_gelu_form gelu;         /* GELU: exact or by tanh                                       */
    double eps;                /* BATCH_NORM                                                   */
    double momentum;           /* BATCH_NORM: weight of the old running value                  */
    bool affine;               /* BATCH_NORM: learns scale and shift                           */
    int64_t axis;              /* SOFTMAX, CONCAT: counted without the batch, or from the end  */
    qn_ints shape;             /* RESHAPE: without the batch, at most one -1                   */
} qn_layer;

/* ---- how to train ------------------------------------------------------------------------- */

#define QN_LOSS_MAP(X) \
    X(CROSS_ENTROPY, "cross_entropy") \
    X(MSE, "mse") \
    X(L1, "l1") \
    X(HUBER, "huber") \
    X(BCE, "bce")
typedef enum qn_loss_kind {
#define X(e, s) QN_LOSS_##e,
    QN_LOSS_MAP(X)
#undef X
        QN_LOSS_COUNT
} qn_loss_kind;

typedef struct qn_recipe_loss {
    qn_loss_kind kind;      /* CROSS_ENTROPY takes logits of C classes, BCE logits of one        */
    double label_smoothing; /* CROSS_ENTROPY                                                     */
    qn_reals class_weights; /* CROSS_ENTROPY; n 0: all 1                                         */
    int64_t ignore_index;   /* CROSS_ENTROPY: label that does not count; -1: none                */
    double delta;           /* HUBER: where the square turns into a line                         */
    double pos_weight;      /* BCE: weight of the positive class                                 */
} qn_recipe_loss;

typedef qn_optimizer_group qn_recipe_group;

typedef struct qn_recipe_optimizer {
    qn_optimizer_kind kind;
    double lr, weight_decay, eps;
    double momentum; /* SGD, RMSPROP                                    */
    bool nesterov;   /* SGD                                             */
    double betas[2]; /* ADAM, ADAMW, LAMB, LION                         */
    double decay;    /* RMSPROP: weight of the old mean square          */
    int32_t n_groups;
    qn_recipe_group *groups;
} qn_recipe_optimizer;

/* Times are in epochs (fractions allowed). Factors multiply optimizer.lr. */
typedef struct qn_recipe_schedule {
    qn_schedule_kind kind;
    double warmup;      /* all but ONE_CYCLE: linear from 0 to 1 over so many epochs      */
    double every;       /* STEP: multiply by gamma each so many epochs                    */
    qn_reals at;        /* MULTI_STEP: multiply by gamma after these epochs               */
    double gamma;       /* STEP, MULTI_STEP, EXPONENTIAL (per epoch), PLATEAU             */
    double end;         /* COSINE, LINEAR, ONE_CYCLE: factor at the end                   */
    double peak;        /* ONE_CYCLE: share of all steps until the top, optimizer.lr      */
    double start;       /* ONE_CYCLE: factor at the first step                            */
    const char *metric; /* PLATEAU: of the validation part                                */
    int64_t patience;   /* PLATEAU: epochs without gain before the rate is lowered        */
    double min_delta;   /* PLATEAU: least gain that counts                                */
    double min_factor;  /* PLATEAU: never below                                           */
} qn_recipe_schedule;

#define QN_METRIC_MAP(X) \
    X(ACCURACY, "accuracy") \
    X(TOP_K, "top_k") \
    X(PRECISION, "precision") \
    X(RECALL, "recall") \
    X(F1, "f1") \
    X(AUC, "auc") \
    X(CONFUSION, "confusion")
typedef enum qn_metric_kind {
#define X(e, s) QN_METRIC_##e,
    QN_METRIC_MAP(X)
#undef X
        QN_METRIC_COUNT
} qn_metric_kind;

#define QN_AVERAGE_MAP(X) \
    X(MACRO, "macro") \
    X(MICRO, "micro") \
    X(CLASS, "class")
typedef enum qn_average {
#define X(e, s) QN_AVERAGE_##e,
    QN_AVERAGE_MAP(X)
#undef X
        QN_AVERAGE_COUNT
} qn_average;

typedef struct qn_recipe_metric {
    qn_metric_kind kind;
    int64_t k;          /* TOP_K                                       */
    qn_average average; /* PRECISION, RECALL, F1; CLASS: one per class */
} qn_recipe_metric;

typedef struct qn_recipe_stopping {
    bool on;
    const char *metric; /* "loss" or a metric's name, on the validation part */
    int64_t patience;   /* epochs without gain before it stops               */
    double min_delta;   /* least gain that counts                            */
} qn_recipe_stopping;

typedef struct qn_recipe_checkpoint {
    int64_t every_epochs, every_steps; /* 0: not by that measure                */
    int64_t keep;                      /* newest ones kept, besides the best    */
} qn_recipe_checkpoint;

typedef struct qn_recipe_clip {
    double norm, value;
} qn_recipe_clip; /* 0: off */
typedef struct qn_recipe_ema {
    bool on;
    double decay;
} qn_recipe_ema;
typedef struct qn_recipe_penalties {
    double l1, l2;
} qn_recipe_penalties; /* added to the loss */
typedef struct qn_recipe_log {
    int64_t every_steps;
} qn_recipe_log;

#define QN_SPIKE_MAP(X) \
    X(OFF, "off") \
    X(WARN, "warn") \
    X(STOP, "stop") \
    X(REWIND, "rewind")
typedef enum qn_spike_policy {
#define X(e, s) QN_SPIKE_##e,
    QN_SPIKE_MAP(X)
#undef X
        QN_SPIKE_COUNT
} qn_spike_policy;

/* A loss above median + factor MAD of the last `window` updates' losses, where MAD is their median absolute deviation,
 * but at least a hundredth of the median. */
typedef struct qn_recipe_spike {
    qn_spike_policy policy;
    double factor;
    int64_t window, max_rewinds;
} qn_recipe_spike;

typedef struct qn_recipe {
    int64_t format;
    const char *name; /* of the run's directory: letters, digits, '.', '_', '-' */
    qn_recipe_data data;
    qn_recipe_augment augment;
    int32_t n_layers;
    qn_layer *layers; /* the last one's output is the network's */
    qn_recipe_loss loss;
    qn_recipe_optimizer optimizer;
    qn_recipe_schedule schedule;
    int32_t n_metrics;
    qn_recipe_metric *metrics;
    int64_t batch, accumulate;     /* samples of a micro-batch; micro-batches per update */
    int64_t epochs, seed, threads; /* threads 0: as many as there are cores          */
    const char *device;            /* "auto", "cpu", "cuda", "cuda:1"                */
    qn_recipe_stopping early_stopping;
    qn_recipe_checkpoint checkpoint;
    qn_recipe_clip clip;
    qn_recipe_ema ema;
    qn_recipe_penalties penalties;
    qn_recipe_log log;
    qn_recipe_spike spike;
    void *memory; /* private */
} qn_recipe;

/* All mistakes found in one run: `count` of them, the first `kept` in list. */
typedef struct qn_recipe_errors {
    int count, kept;
    qn_error list[QN_RECIPE_ERRORS];
} qn_recipe_errors;

/* Reads and checks the recipe at `path`. sets: n_sets texts "key.path[3].key=value" that replace or
 * add values of the file before it is checked; a value that is not JSON is taken as a string.
 * errs may be NULL. On failure *out is NULL; the status is QN_EUSAGE for a wrong recipe. */
QN_API QN_CHECKED qn_status qn_recipe_load(qn_recipe **out, const char *path, const char *const *sets, int n_sets,
                                           qn_recipe_errors *errs);

/* The same for a text in memory (it need not end in NUL); `name` is the file named in messages. */
QN_API QN_CHECKED qn_status qn_recipe_parse(qn_recipe **out, const char *name, const char *text, size_t bytes,
                                            const char *const *sets, int n_sets, qn_recipe_errors *errs);

QN_API void qn_recipe_free(qn_recipe *recipe); /* NULL is fine */

/* The resolved recipe as JSON text, every default written out; parsing it gives the same recipe.
 * The caller frees *out with free(). `bytes` (may be NULL) does not count the NUL at the end. */
QN_API QN_CHECKED qn_status qn_recipe_write(const qn_recipe *recipe, char **out, size_t *bytes, qn_error *err);

/* What a recipe may contain: a listing for the terminal, the page docs/recipes.md, or a JSON Schema
 * (2020-12). The caller frees *out with free(). */
typedef enum qn_schema_form { QN_SCHEMA_TEXT, QN_SCHEMA_MARKDOWN, QN_SCHEMA_JSON } qn_schema_form;
QN_API QN_CHECKED qn_status qn_recipe_schema(qn_schema_form form, char **out, qn_error *err);

#ifdef __cplusplus
}
#endif
#endif
