/* answers.h - what a trained network says, and the data it is asked about: shared by predict, eval, ensemble, demo. */
#ifndef QN_CLI_ANSWERS_H
#define QN_CLI_ANSWERS_H
#include "cli.h"
#include "../include/quern/train.h"
#include <jansson.h>

/* ---- inputs ---------------------------------------------------------------------------------------------------- */

/* Samples of one file, ready for the network. */
struct samples {
    float *x; /* [n, size] */
    int64_t n, size;
};
/* A .png picture, .npy array, .csv or .txt table of any path, or "-" for standard input (which may be any of these:
 * PNG and .npy are told apart by their first bytes). Nothing is kept on failure. */
qn_status cli_read_samples(struct samples *out, const char *path, const qn_transform *t, qn_error *err);
void cli_free_samples(struct samples *s);

/* ---- outputs --------------------------------------------------------------------------------------------------- */

/* Whether the network names classes; else it gives values. */
bool cli_is_classifier(const qn_model *m);
int64_t cli_n_classes(const qn_model *m);
/* One row of qn_model_predict as scores of all classes [cli_n_classes]: a single output stands for class 1. */
void cli_class_scores(const qn_model *m, const float *row, float *scores);
/* The first of the highest. */
int64_t cli_highest(const float *scores, int64_t n);
/* The class's name; a number where the data had none. buf holds it then. */
const char *cli_class_name(const qn_model *m, int64_t c, char buf[24]);

/* ---- test data -------------------------------------------------------------------------------------------------- */

/* The part of the data that a model is measured on. */
struct test_part {
    qn_parts parts;
    qn_dataset *other; /* opened from --data; NULL: the recipe's own     */
    qn_dataset *ds;    /* one of the above                              */
    qn_indices *over;  /* NULL: all of ds                               */
    const char *name;  /* "test", "validation" or "data", for the reader */
};
/* The recipe's test part, the validation part where there is none, or the data at `data` (not NULL); normalised as the
 * model's checkpoint says. sets change where the recipe's data is. Prints what went wrong; 0 or the exit code. */
int cli_open_test(struct test_part *out, const qn_model *m, const struct list *sets, const char *data);
void cli_close_test(struct test_part *t);

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

/* Any bytes as a JSON string: what is not UTF-8 is escaped. */
json_t *cli_text(const char *s);
/* null for what is not finite. */
json_t *cli_real(double x);
/* One line to stdout, or with depth indented; takes the reference. Exit code 5 if memory ran out. */
int cli_print_json(json_t *o, int indent);
/* The figures of a summary that apply. */
json_t *cli_summary_json(const qn_metrics_summary *m);
#endif
