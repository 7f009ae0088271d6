/* demo.h - what the parts of `quern demo` share. */
#ifndef QN_CLI_DEMO_H
#define QN_CLI_DEMO_H
#include "answers.h"

struct demo {
    const char *out;
    int threads;
    bool synthetic; /* drawn digits stand in for the images */
    qn_recipe *recipe;
    qn_train_result result;
    qn_model *model;
    struct test_part test;
};

/* curves, confusion, samples, filters and saliency .png into d->out; says of each where it is. */
qn_status demo_draw(struct demo *d, qn_error *err);
#endif
